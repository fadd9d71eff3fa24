"""A small case inside a huge launch: its rows lie far apart, and between them stands nothing.

An axis may grow where the mathematics lets it: numbers in between (zeros; minus infinity for what a
softmax runs over) change no result. Whether they do is found out by trying, once, on a small case.
So the truth of a few rows is the truth of a launch of 2^31 elements, at those rows, sums over all
of the axis included.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from checks import cases, measuring
from checks.cases import BELOW, Case
from checks.sampling import factors
from ported import contract as contracts
from ported.contract import Contract, Tensor

KEPT = 24  # places along an axis that grows
POWERS = (31, 29, 24, 32, 30, 20, 16)  # of two, in elements: places on both sides of each
INDEXES = {"tokens": "Vp", "targets": "V"}  # tensors of places along an axis
TRIED = 4  # places that are put in between when an axis is tried


@dataclass(frozen=True)
class Grown:
    """`case` spread over a launch of `sizes`: `kept` are the places of each axis that grew, `fills`
    what stands in between where it is not zero."""

    case: Case
    contract: Contract
    axis: str
    sizes: Mapping[str, int]
    kept: Mapping[str, np.ndarray]
    fills: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        sizes = ",".join(f"{axis}={self.sizes[axis]}" for axis in self.contract.axes)
        return f"{self.case} spread over {sizes}"

    def words(self, axes: tuple[str, ...]) -> list[str]:
        return [word for axis in axes for word in factors(axis)]

    def named(self, axes: tuple[str, ...]) -> bool:
        """Whether these axes are made of the contract's own."""
        return all(word.isdigit() or word in self.sizes for word in self.words(axes))

    def places(self, axes: tuple[str, ...]) -> np.ndarray:
        """Where each element of the small tensor of these axes lies in the large one; ascending."""
        flat, small = np.zeros(1, np.int64), self.case.sizes
        for word in self.words(axes):
            size = int(word) if word.isdigit() else self.sizes[word]
            here = self.kept.get(word)
            if here is None:
                here = np.arange(size if word.isdigit() else small[word])
            flat = (flat[:, None] * size + here).reshape(-1)
        return flat

    def value(self, tensor: Tensor, value: np.ndarray) -> np.ndarray:
        """What the launch reads of an input of the case: places along an axis that grew move."""
        if tensor.role == "I32" and not tensor.dyn:
            moved = self.kept.get(INDEXES[tensor.name])
            return value if moved is None else moved[np.asarray(value, np.int64)]
        return value


def _strides(contract: Contract, axis: str, sizes: Mapping[str, int]) -> list[int]:
    """Elements from one place of the axis to the next, in each tensor that has it."""
    found = []
    for tensor in contract.tensors:
        words = [word for part in tensor.axes for word in factors(part)]
        if axis in words:
            behind = words[words.index(axis) + 1:]
            found.append(int(np.prod([int(w) if w.isdigit() else sizes[w] for w in behind],
                                     dtype=np.int64)))
    return sorted(set(found), reverse=True)


def positions(first: int, size: int, count: int, strides: list[int], seed: int) -> np.ndarray:
    """`count` places from `first` below `size`: both ends, those around the powers of two that a
    flat index passes, and some at random."""
    wanted = [first, size - 1, first + 1, size - 2]
    for power in POWERS:
        for stride in strides:
            at = (2**power % (size * stride)) // stride
            wanted += [at, at - 1, at + 1]
    inside = dict.fromkeys(at for at in wanted if first <= at < size)
    random = np.random.default_rng([seed, size])
    chosen = set(list(inside)[:count - min(count // 4, 4)])
    while len(chosen) < min(count, size - first):
        chosen.add(int(random.integers(first, size)))
    return np.array(sorted(chosen), np.int64)


def grown(contract: Contract, axis: str, small: Mapping[str, int], size: int, seed: int,
          precision: str = "float32", fills: Mapping[str, float] | None = None) -> Grown:
    """A case of `small` sizes, its `axis` spread over `size` places, and with it the axis that
    may not be shorter. `small` says how many places are kept; ValueError where `size` is less."""
    if size < small[axis]:
        raise ValueError(f"{contract.name}: found {axis}={size}; expected room for the "
                         f"{small[axis]} places that are kept")
    sizes, kept = {**small, axis: size}, {}
    lower = next((low for low, high in BELOW.items() if high == axis and low in small), None)
    upper = BELOW.get(axis) if BELOW.get(axis) in small else None
    first = small[lower] if lower else 0
    if upper:
        sizes[upper] = size + small[upper] - small[axis]
    strides = _strides(contract, axis, sizes) or [1]
    spread = positions(first, size, small[axis] - first, strides, seed)
    kept[axis] = np.concatenate([np.arange(first), spread])
    if upper:
        kept[upper] = np.concatenate([kept[axis], np.arange(size, sizes[upper])])
    axes = tuple((name, small[name]) for name in cases.axes_of(contract))
    case = Case(contract.name, axes, seed, "unit", precision)
    return Grown(case, contract, axis, sizes, kept, dict(fills or {}))


def _whole(launch: Grown, inputs: Mapping) -> dict:
    """The inputs of the launch as arrays. In a tensor that is overwritten anything may stand in
    between: in folded memory (folded.py) that is what the launch itself wrote for other places."""
    found, random = dict(inputs), np.random.default_rng(0)
    for tensor in launch.contract.inputs:
        shape = tensor.shape(launch.sizes)
        array = np.full(shape, launch.fills.get(tensor.name, 0), np.asarray(
            inputs[tensor.name]).dtype)
        if tensor.access == "inout":
            array[...] = random.standard_normal(shape)
        array.reshape(-1)[launch.places(tensor.axes)] = launch.value(
            tensor, inputs[tensor.name]).reshape(-1)
        found[tensor.name] = array
    return found | {axis: launch.sizes[axis] for axis in launch.contract.axis_arguments}


def _unchanged(launch: Grown, inputs: Mapping, expected: Mapping[str, np.ndarray]) -> bool:
    with np.errstate(all="ignore"):
        found = measuring.plain(launch.contract, _whole(launch, inputs))
    return all(np.allclose(found[name].reshape(-1)[launch.places(
        launch.contract.by_name[name].axes)], value.reshape(-1), 1e-10, 0)
        for name, value in expected.items())


@cache
def neutral(name: str, axis: str) -> Mapping[str, float] | None:
    """What has to stand in between where the contract's `axis` grows, by input; nothing: zeros
    everywhere. None where no filling leaves the results alone."""
    contract = contracts.of(name)
    small = {"T": 4, "Tmax": 6, "V": 5, "Vp": 7}
    small = {axis: small.get(axis, 3) for axis in cases.axes_of(contract)}
    small[axis] += axis not in BELOW
    tried = grown(contract, axis, small, small[axis] + TRIED, 1)
    inputs = cases.draw(tried.case, contract).inputs
    expected = measuring.plain(contract, inputs)
    lying = [t.name for t in contract.inputs if t.role != "I32" and {axis, BELOW.get(axis)}
             & {word for part in t.axes for word in factors(part)}]
    for fills in ({}, *({name: -np.inf} for name in lying)):
        launch = grown(contract, axis, small, small[axis] + TRIED, 1, fills=fills)
        if _unchanged(launch, inputs, expected):
            return fills
    return None
