"""Truth and the scale of honest float32 errors, from runs of an explicit function in float64.

One run carries variances along, a few carry random errors, one is plain float32 (rounding.py); here
they are put together.
"""

import importlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from checks import rounding, steps, storage
from ported.contract import Contract
from ported.precision import FLOAT32, Precision

SAMPLES, FEWER = 8, 4  # runs with random errors: of small cases, of large ones
LARGE = 100_000  # elements of all inputs together
ALIKE, ALIKE_NARROW = 0.75, 0.35  # of the numbers different; bfloat16 has few numbers
CLIPPED = 100.0
INFLATED = 4.0


class Measured(NamedTuple):
    """One output, measured."""

    value: np.ndarray
    scale: np.ndarray
    errors: list[np.ndarray]  # of each sample; plain float32's last
    share: float  # the samples' spread over the propagated one
    alike: bool  # most numbers among the inputs occur many times
    terms: int  # of the longest sum on the way
    stored: bool = False  # whether some step may be rounded by being stored


def tensors_of(contract: Contract, inputs: Mapping) -> dict:
    """Arguments of the explicit function: floats in float64, integers in int64."""
    made = {}
    for name, value in inputs.items():
        if name in contract.axis_arguments:
            made[name] = int(value)
        elif name in contract.consts:
            made[name] = float(value)
        else:
            array = np.asarray(value)
            kind = np.float64 if array.dtype.kind == "f" else np.int64
            made[name] = torch.from_numpy(np.array(array, kind))
    return made


def single(arguments: Mapping) -> dict:
    """The same arguments, floats in float32."""
    return {name: torch.from_numpy(value.numpy().astype(np.float32))
            if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for name, value in arguments.items()}


def explicit(contract: Contract, arguments: Mapping, mode=None) -> dict[str, torch.Tensor]:
    """The explicit function's outputs by name, on tensors, under a rounding mode or none."""
    module = importlib.import_module(f"reference.explicit.{contract.operation}")
    function = getattr(module, contract.direction)
    return steps.run(lambda: function(**arguments), mode)


def plain(contract: Contract, inputs: Mapping) -> dict[str, np.ndarray]:
    """The explicit function's outputs in float64, from arrays to arrays."""
    found = explicit(contract, tensors_of(contract, inputs))
    return {name: value.numpy() for name, value in found.items()}


def measure(contract: Contract, inputs: Mapping, seed: int, samples: int | None = None,
            products: float = rounding.UNIT, precision: Precision = FLOAT32
            ) -> dict[str, Measured]:
    """Every output measured. `samples`: how many runs with random errors; `products`: the unit
    round-off to which the factors of matrix products are declared to be rounded, where they are
    not stored so (storage.py)."""
    arguments = tensors_of(contract, inputs)
    marks = storage.marks(contract, lambda mode: explicit(contract, arguments, mode), precision)
    spread = rounding.Propagate(products, marks, storage.variance)
    values = explicit(contract, arguments, spread)
    alike = _alike(inputs, ALIKE if not marks and precision is FLOAT32 else ALIKE_NARROW)
    samples = samples or (SAMPLES if sum(map(np.size, inputs.values())) < LARGE else FEWER)
    sampled = _sampled(contract, arguments, spread, range(seed, seed + samples), alike)
    narrow = (explicit(contract, arguments, rounding.Sample(spread, 0, narrow=True))
              if spread.overflows else {})
    found = {}
    for name, value in values.items():
        variance = spread.before.get(id(value), spread.variance(value))
        variance = np.zeros(value.shape) if variance is None else variance.numpy()
        terms, value = spread.terms(value), value.numpy()
        others = [sample[name].numpy() for sample in sampled]
        errors = [other - value for other in others]
        scale, share = _pooled(variance, errors)
        if marks:  # what is stored is rounded in one way: if that goes far, it goes far
            scale = np.fmax(scale, np.abs(errors[-2]) / 2)
        scale[_unjudged(value, others, narrow.get(name))] = np.inf
        if spread.infinite and not _any_nan(inputs):
            scale[np.isnan(value)] = np.inf
        found[name] = Measured(value, scale, errors, share, alike, terms, bool(marks))
    return found


def _sampled(contract, arguments, spread, seeds, alike) -> list[dict[str, torch.Tensor]]:
    """Runs with random errors, then plain float32; with really rounded storage, where there is
    any, before that."""
    modes = [rounding.Sample(spread, seed, alike=alike or bool(spread.marks)) for seed in seeds]
    found = [storage.originals(explicit(contract, arguments, mode), mode) for mode in modes]
    if spread.marks:
        found.append(stored(contract, single(arguments), spread.marks))
    return [*found, explicit(contract, single(arguments))]


def stored(contract: Contract, arguments: Mapping, marks: frozenset[int]) -> dict:
    """The explicit function with what may be stored on the way rounded to bfloat16."""
    mode = storage.Stored(marks)
    return storage.originals(explicit(contract, arguments, mode), mode)


def _any_nan(inputs: Mapping) -> bool:
    return any(bool(np.isnan(a).any()) for a in inputs.values()
               if isinstance(a, np.ndarray) and a.dtype.kind == "f")


def _alike(inputs: Mapping, least: float) -> bool:
    """Whether most numbers among the inputs occur many times."""
    different, size = 0.0, 0
    for array in inputs.values():
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":
            some = array.reshape(-1)[::max(array.size // 256, 1)]
            different += array.size * np.unique(some).size / some.size
            size += array.size
    return different < least * size


def _unjudged(value, others, narrow) -> np.ndarray:
    """Where float32 may give anything: its range ends on the way, or honest classes differ."""
    inside = np.isfinite(value) & (np.abs(value) < rounding.LARGEST)
    unsure = np.zeros(value.shape, bool)
    with np.errstate(invalid="ignore"):
        for other in others:
            unsure |= inside & ~np.isfinite(other) | np.isnan(value) & ~np.isnan(other)
        if narrow is not None:
            narrow = narrow.numpy()
            same = np.isclose(narrow, value, 1e-9, 0)
            unsure |= np.where(np.isnan(narrow), np.isfinite(value), inside & ~same)
    return unsure


def rows(array: np.ndarray) -> np.ndarray:
    """As a matrix: leading axes merged; a vector is a column."""
    return array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)


def _pooled(variance: np.ndarray, errors: list[np.ndarray]) -> tuple[np.ndarray, float]:
    """The scale: the propagated spread, enlarged where the samples' is larger.

    The samples see correlation but are few, so that their excess is pooled over the whole tensor,
    over rows and over columns. An error that a whole tensor shares is seen once a sample, therefore
    what goes beyond chance counts INFLATED times (a chi-square of nine degrees may come out that
    small). A single element that float32 treats unlike any other (excess above CLIPPED) speaks for
    its row and column alone.
    """
    safe = np.where((variance > 0) & np.isfinite(variance), variance, np.inf)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = (np.nan_to_num(e * e, nan=0.0, posinf=0.0) for e in errors)
        excess = rows(sum(squares) / len(errors) / safe)
    known = rows(np.isfinite(safe))
    whole = np.minimum(excess, CLIPPED).sum() / max(known.sum(), 1)
    by_row = excess.sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
    by_column = excess.sum(0, keepdims=True) / np.maximum(known.sum(0, keepdims=True), 1)
    factor = 1 + sum(INFLATED * np.maximum(pool - 1 - 2 * np.sqrt(2 / len(errors) / size), 0)
                     for pool, size in ((whole, known.size), (by_row, known.shape[1]),
                                        (by_column, known.shape[0])))
    scale = np.sqrt(rows(variance) * np.nan_to_num(factor, nan=1.0)).reshape(variance.shape)
    return np.nan_to_num(scale, nan=np.inf, posinf=np.inf), float(np.sqrt(whole))
