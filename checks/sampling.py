"""Which part of a large case is judged: all of it, or edge and random slices of independent axes.

An axis is independent for an output when slicing every tensor along it slices that output and
changes nothing else: rows of a layernorm, rows and columns of a product, but not the channels of a
layernorm. Whether it is so is found out by trying, once, on a small case. An output without an
independent axis is judged whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from checks import measuring
from ported import contract as contracts
from ported.contract import Contract

ELEMENTS = 1 << 19  # that a case may have in all its tensors and still be judged whole
FEWEST = 32  # slices kept of an axis: the edges, and the rest at random
SMALL = 4  # size of every axis in the trial


@dataclass(frozen=True)
class Part:
    """Some outputs, the inputs that they follow from, and where they lie: axis -> indices."""

    outputs: tuple[str, ...]
    inputs: dict
    kept: dict[str, np.ndarray]


def cut(array: np.ndarray, axes: tuple[str, ...], kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """`array` at the kept indices of its axes."""
    for position, axis in enumerate(axes):
        if axis in kept:
            array = np.take(array, kept[axis], position)
    return array


def sliced(contract: Contract, inputs: Mapping, kept: Mapping[str, np.ndarray]) -> dict:
    """The inputs at the kept indices."""
    return {name: cut(value, contract.by_name[name].axes, kept)
            if isinstance(value, np.ndarray) else value for name, value in inputs.items()}


@cache
def independent(name: str) -> dict[str, tuple[str, ...]]:
    """The independent axes of each output of a contract."""
    contract = contracts.of(name)
    random = np.random.default_rng(0)
    sizes = dict.fromkeys(contract.axes, SMALL)
    inputs: dict = {axis: SMALL for axis in contract.axis_arguments} | contract.consts
    for tensor in contract.inputs:
        shape = tensor.shape(sizes)
        inputs[tensor.name] = (random.integers(1, SMALL, shape) if tensor.role == "I32"
                               else random.uniform(0.5, 2, shape))
    whole = measuring.plain(contract, inputs)
    found: dict[str, tuple[str, ...]] = dict.fromkeys(whole, ())
    for axis in set(contract.axes) - set(contract.axis_arguments):
        kept = {axis: np.array([0, 2])}
        try:
            part = measuring.plain(contract, sliced(contract, inputs, kept))
        except (RuntimeError, IndexError, ValueError):
            continue
        for output, value in whole.items():
            axes = contract.by_name[output].axes
            expected = cut(value, axes, kept)
            if axis in axes and expected.shape == part[output].shape and np.allclose(
                    expected, part[output], 1e-12, 0):
                found[output] += (axis,)
    return found


def _elements(contract: Contract, sizes: Mapping[str, int]) -> int:
    return sum(int(np.prod([float(n) for n in t.shape(sizes)])) for t in contract.tensors)


def _indices(size: int, keep: int, random) -> np.ndarray:
    edge = keep // 4
    middle = random.choice(size - 2 * edge, keep - 2 * edge, replace=False) + edge
    return np.sort(np.concatenate([np.arange(edge), middle, np.arange(size - edge, size)]))


def parts(contract: Contract, inputs: Mapping, seed: int, limit: int = ELEMENTS) -> list[Part]:
    """The whole case as one part, or for each group of outputs the slices that stand for it."""
    names = tuple(tensor.name for tensor in contract.outputs)
    sizes = sizes_of(contract, inputs)
    if _elements(contract, sizes) <= limit:
        return [Part(names, dict(inputs), {})]
    random = np.random.default_rng(seed)
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        axes = sorted(independent(contract.name).get(name, ()), key=lambda axis: -sizes[axis])
        groups.setdefault(tuple(axes), []).append(name)
    found = []
    for axes, outputs in groups.items():
        kept: dict[str, np.ndarray] = {}
        for axis in axes:
            now = {**sizes, **{a: len(index) for a, index in kept.items()}}
            over = _elements(contract, now) / limit
            keep = max(int(now[axis] / over), FEWEST)
            if over > 1 and keep < now[axis]:
                kept[axis] = _indices(now[axis], keep, random)
        found.append(Part(tuple(outputs), sliced(contract, inputs, kept), kept))
    return found


def sizes_of(contract: Contract, inputs: Mapping) -> dict[str, int]:
    """Axis sizes as the shapes of the inputs show them; products of axes are not taken apart."""
    sizes = {axis: int(inputs[axis]) for axis in contract.axis_arguments}
    for tensor in contract.inputs:
        for axis, size in zip(tensor.axes, np.shape(inputs[tensor.name]), strict=True):
            if axis.isidentifier():
                sizes[axis] = size
    for tensor in contract.inputs:  # 3*H*D: what is left once its other factors are known
        for axis, size in zip(tensor.axes, np.shape(inputs[tensor.name]), strict=True):
            factors = [factor.strip() for factor in axis.split("*")]
            unknown = [f for f in factors if not f.isdigit() and f not in sizes]
            if len(unknown) == 1:
                known = [int(f) if f.isdigit() else sizes[f] for f in factors if f != unknown[0]]
                sizes[unknown[0]] = size // int(np.prod(known))
    return sizes
