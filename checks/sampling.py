"""Which part of a large case is judged: all of it, or edge and random slices of independent axes.

An axis is independent for an output when slicing every tensor along it slices that output and
changes nothing else: rows of a layernorm, rows and columns of a product, but not the channels of a
layernorm; so is an axis that an output does not depend on at all. Whether it is so is found out by
trying, once, on a small case. An output without an independent axis is judged whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from checks import measuring
from ported import contract as contracts
from ported.contract import Contract

ELEMENTS = 1 << 19  # that a case may have in all its tensors and still be judged whole
FEWEST = 32  # slices kept of an axis: the edges, and the rest at random
LEAST = 2  # slices kept where even FEWEST are more than WORK operations
WORK = 1 << 28
SMALL = 4  # size of every axis in the trial


@dataclass(frozen=True)
class Part:
    """Some outputs, the inputs that they follow from, and where they lie: axis -> indices, of so
    many (`sizes`)."""

    outputs: tuple[str, ...]
    inputs: dict
    kept: dict[str, np.ndarray]
    sizes: Mapping[str, int] = field(default_factory=dict)


def factors(axis: str) -> list[str]:
    """The axes that a product of axes, as 3*H*D, is made of."""
    return [factor.strip() for factor in axis.split("*")]


def cut(array: np.ndarray, axes: tuple[str, ...], kept: Mapping[str, np.ndarray],
        sizes: Mapping[str, int]) -> np.ndarray:
    """`array` at the kept indices of its axes, those inside products of axes too."""
    for position, axis in enumerate(axes):
        words = factors(axis)
        if not set(words) & set(kept):
            continue
        shape = [int(word) if word.isdigit() else sizes[word] for word in words]
        places = np.arange(int(np.prod(shape))).reshape(shape)
        for place, word in enumerate(words):
            if word in kept:
                places = np.take(places, kept[word], place)
        array = np.take(array, places.reshape(-1), position)
    return array


def sliced(contract: Contract, inputs: Mapping, kept: Mapping[str, np.ndarray],
           sizes: Mapping[str, int]) -> dict:
    """The inputs at the kept indices; an axis that is an argument has as many as are kept."""
    found = {name: cut(value, contract.by_name[name].axes, kept, sizes)
             if isinstance(value, np.ndarray) else value for name, value in inputs.items()}
    return found | {axis: len(kept[axis]) for axis in contract.axis_arguments if axis in kept}


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
    for axis in contract.axes:
        kept = {axis: np.array([0, 2])}
        try:
            part = measuring.plain(contract, sliced(contract, inputs, kept, sizes))
        except (RuntimeError, IndexError, ValueError):
            continue
        for output, value in whole.items():
            axes = contract.by_name[output].axes
            expected = cut(value, axes, kept, sizes)
            if expected.shape == part[output].shape and np.allclose(
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
        _within_work(contract, sizes, axes, kept, random)
        found.append(Part(tuple(outputs), sliced(contract, inputs, kept, sizes), kept, sizes))
    return found


def _within_work(contract: Contract, sizes, axes, kept: dict, random) -> None:
    """Fewer slices still, where the explicit file states more than WORK operations."""
    for axis in axes:
        now = {**sizes, **{a: len(index) for a, index in kept.items()}}
        over = (contract.stated("FLOPS", now) or 0) / WORK
        keep = max(int(now[axis] / max(over, 1)), LEAST)
        if keep < now[axis]:
            kept[axis] = _indices(sizes[axis], keep, random)


def sizes_of(contract: Contract, inputs: Mapping) -> dict[str, int]:
    """Axis sizes as the shapes of the inputs show them; products of axes are not taken apart."""
    sizes = {axis: int(inputs[axis]) for axis in contract.axis_arguments}
    for tensor in contract.inputs:
        for axis, size in zip(tensor.axes, np.shape(inputs[tensor.name]), strict=True):
            if axis.isidentifier():
                sizes[axis] = size
    for tensor in contract.inputs:  # 3*H*D: what is left once its other factors are known
        for axis, size in zip(tensor.axes, np.shape(inputs[tensor.name]), strict=True):
            words = factors(axis)
            unknown = [word for word in words if not word.isdigit() and word not in sizes]
            if len(unknown) == 1:
                known = [int(w) if w.isdigit() else sizes[w] for w in words if w != unknown[0]]
                sizes[unknown[0]] = size // int(np.prod(known))
    return sizes
