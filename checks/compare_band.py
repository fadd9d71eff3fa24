"""How far a training run may stray from float64: no farther than stock float32 does, times a factor
that is measured too.

Measured are the loss and the gradient norm of every step, the first step's gradients by name, and
at some steps every parameter and moment tensor, each against the float64 run (parameters without
the worst hundredth of elements: AdamW moves an element by its gradient's sign, and where that
gradient is noise the sign is chance).
The bound of a measure at a step is the most that any stray had shown by then, times FACTOR *
chance, and a unit in the last place of what is measured.
`chance` is how far one stray exceeds all others somewhere: the most in a measure's family of
(one stray) / (largest of the rest), and no less than what 100 steps of the default model showed of
that family (LEAST_CHANCE), since a short run has too few points to show it. FACTOR 2 is what the
gate allows a kernel against stock.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

Array = np.ndarray | torch.Tensor
FACTOR = 2.0
LEAST_CHANCE = {"loss": 1.35, "norm": 1.55, "parameters": 1.9, "m": 1.9, "v": 1.9,
                "gradients": 1.9}
ULP = 2.0**-23
TRIMMED = 100
FAMILIES = ("loss", "norm", "parameters", "m", "v", "gradients")


@dataclass(frozen=True)
class Point:
    """One measure at one step: errors of the candidates by name and of the strays, and a floor."""

    step: int
    family: str
    name: str
    candidates: dict[str, float]
    strays: tuple[float, ...]
    floor: float


@dataclass(frozen=True)
class Judged:
    """A candidate's error at a point, and the bound that it must be within."""

    point: Point
    candidate: str
    error: float
    bound: float

    @property
    def ratio(self) -> float:
        return self.error / self.bound

    @property
    def within(self) -> bool:
        return self.error <= self.bound  # a NaN is not


def scalars(step: int, family: str, truth: float, candidates: Mapping[str, float],
            strays: list[float]) -> Point:
    """The loss or the norm of one step, as relative errors."""
    def error(value: float) -> float:
        return abs(value - truth) / abs(truth)

    return Point(step, family, family, {name: error(value) for name, value in candidates.items()},
                 tuple(map(error, strays)), ULP)


def gradients(truth: Mapping[str, Array], candidates: Mapping[str, Mapping[str, Array]],
              strays: list[Mapping[str, Array]]) -> list[Point]:
    """The first step's gradient of every parameter: L2 error over the truth's L2 norm."""
    found = []
    for name, value in truth.items():
        size = _norm(value)

        def error(other: Mapping[str, Array], name=name, value=value, size=size) -> float:
            distance = _norm(other[name].reshape(value.shape) - value)
            return distance / size if size else (math.inf if distance else 0.0)

        found.append(Point(1, "gradients", name, {c: error(g) for c, g in candidates.items()},
                           tuple(error(stray) for stray in strays), ULP))
    return found


def tensors(step: int, truth: Mapping[str, Array], start: Mapping[str, Array],
            candidates: Mapping[str, Mapping[str, Array]],
            strays: list[Mapping[str, Array]]) -> list[Point]:
    """Every tensor's L2 error over how far it has moved since `start` (moments: from zero). Arrays
    are NumPy's, or all of them PyTorch's."""
    found = []
    for name, value in truth.items():
        family = name.rpartition(".")[2]
        family = family if family in ("m", "v") else "parameters"
        moved = _norm(value - start[name] if name in start else value)
        floor = ULP * _norm(value) / moved if moved else 0.0

        def error(other: Mapping[str, Array], name=name, value=value, moved=moved) -> float:
            distance = _length(other[name].reshape(value.shape) - value, name in start)
            return distance / moved if moved else (math.inf if distance else 0.0)

        found.append(Point(step, family, name, {c: error(t) for c, t in candidates.items()},
                           tuple(error(stray) for stray in strays), floor))
    return found


def _norm(array: Array) -> float:
    if isinstance(array, np.ndarray):
        return float(np.linalg.norm(array))
    return float(torch.linalg.vector_norm(array))


def _length(error: Array, trimmed: bool) -> float:
    """L2 norm, of parameters without the hundredth of elements that are farthest off."""
    if not trimmed or not math.isfinite(_norm(error)):
        return _norm(error)
    size = abs(error).reshape(-1)
    kept = math.prod(size.shape) - -(-math.prod(size.shape) // TRIMMED)
    if kept and isinstance(size, np.ndarray):
        size = np.partition(size, kept)[:kept]
    elif kept:
        size = size.sort().values[:kept]
    return _norm(size)


class Band:
    """Collects points, then judges them."""

    def __init__(self):
        self.points: list[Point] = []

    def most(self) -> list[tuple[float, ...]]:
        """For each point the most that each stray has shown in its measure by then."""
        high: dict[tuple[str, str], np.ndarray] = {}
        found = []
        for point in self.points:
            key = (point.family, point.name)
            high[key] = np.maximum(high.get(key, 0.0), np.array(point.strays))
            found.append(tuple(high[key]))
        return found

    def chances(self) -> dict[str, float]:
        """By family: how far one stray exceeds the others, at worst."""
        found = dict(LEAST_CHANCE)
        for point, most in zip(self.points, self.most(), strict=True):
            first, second = sorted(most)[-1], sorted(most)[-2]
            ratio = (first + point.floor) / (second + point.floor) if second + point.floor else 1.0
            found[point.family] = max(found[point.family], ratio)
        return found

    def judge(self) -> list[Judged]:
        """Every candidate at every point."""
        chance = self.chances()
        return [Judged(point, name, error, FACTOR * chance[point.family] * max(most) + point.floor)
                for point, most in zip(self.points, self.most(), strict=True)
                for name, error in point.candidates.items()]
