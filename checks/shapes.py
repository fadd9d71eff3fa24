"""Which shapes a version is tried at: a spine that none escapes, and what hypothesis draws.

The spine holds the sizes at which kernels break: one, a tile, a tile and one more or one less,
distinct primes, many rows of few channels, GPT-2's own. An axis that a version's `needs` restrict
is moved to the nearest size that they allow.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache

import numpy as np
from hypothesis import strategies as st

from checks import cases
from checks.cases import FAMILIES, RARE, Case
from ported import contract as contracts
from ported import expressions
from ported.contract import Contract
from ported.source import Version

SPINE = {
    "odd": {"B": 2, "T": 7, "N": 5, "C": 13, "O": 11, "H": 3, "D": 5, "V": 17, "Vp": 23, "Tmax": 9,
            "S": 3, "E": 19, "": 6},
    "one": {"": 1},
    "even": {"B": 2, "T": 8, "N": 8, "C": 128, "O": 32, "H": 2, "D": 64, "V": 120, "Vp": 128,
             "Tmax": 16, "S": 4, "E": 128, "": 8},
    "equal": {"": 12},
    "tile": {"B": 2, "T": 32, "N": 32, "C": 64, "O": 96, "H": 2, "D": 32, "V": 120, "Vp": 128,
             "Tmax": 64, "S": 4, "E": 256, "": 16},
    "over": {"B": 3, "T": 33, "N": 33, "C": 65, "O": 129, "H": 3, "D": 17, "V": 129, "Vp": 131,
             "Tmax": 35, "S": 5, "E": 257, "": 17},
    "under": {"B": 1, "T": 63, "N": 63, "C": 31, "O": 127, "H": 1, "D": 15, "V": 127, "Vp": 127,
              "Tmax": 63, "S": 2, "E": 255, "": 15},
    "long": {"B": 1, "T": 130, "N": 259, "C": 3, "O": 9, "H": 2, "D": 4, "V": 5, "Vp": 7,
             "Tmax": 131, "S": 37, "E": 3, "": 2},
    "wide": {"B": 1, "T": 2, "N": 2, "C": 771, "O": 67, "H": 1, "D": 77, "V": 1021, "Vp": 1031,
             "Tmax": 3, "S": 1, "E": 1030, "": 3},
    "gpt2": {"B": 1, "T": 5, "N": 3, "C": 768, "O": 160, "H": 12, "D": 64, "V": 129, "Vp": 160,
             "Tmax": 6, "S": 7, "E": 256, "": 8},
    "model": {"B": 1, "T": 2, "N": 2, "C": 1024, "O": 256, "H": 16, "D": 128, "V": 250,
              "Vp": 256, "Tmax": 4, "S": 1, "E": 1024, "": 2},
    "fourfold": {"B": 17, "T": 3, "N": 2, "C": 256, "O": 1024, "H": 25, "D": 8, "V": 1024,
                 "Vp": 1024, "Tmax": 4, "S": 17, "E": 512, "": 2},
    "tall": {"B": 1, "T": 515, "N": 2053, "C": 2, "O": 3, "H": 1, "D": 3, "V": 3, "Vp": 5,
             "Tmax": 517, "S": 65, "E": 129, "": 2},
    "broad": {"B": 1, "T": 3, "N": 2, "C": 6401, "O": 5, "H": 1, "D": 259, "V": 4099, "Vp": 4101,
              "Tmax": 5, "S": 2, "E": 4099, "": 2},
    "vocabulary": {"N": 2, "V": 50257, "Vp": 50304, "B": 2, "T": 7, "C": 2, "Tmax": 1024, "": 2},
    "xl": {"B": 1, "T": 2, "N": 2, "C": 1600, "O": 7, "H": 25, "D": 96, "V": 1590, "Vp": 1600,
           "Tmax": 2, "S": 1, "E": 1600, "": 2},
    "wider": {"B": 1, "T": 2, "N": 2, "C": 3072, "O": 7, "H": 1, "D": 192, "V": 3000, "Vp": 3072,
              "Tmax": 2, "S": 1, "E": 3072, "": 2},
    "deep": {"C": 131101, "D": 2, "E": 131101, "B": 1, "O": 5, "V": 4, "Vp": 5, "": 2},
    "spread": {"B": 300, "T": 2, "C": 2, "O": 66041, "H": 2, "D": 1, "V": 66041, "Vp": 66043,
               "S": 66041, "": 2},
    "pair": {"B": 1, "T": 2, "N": 3, "C": 520, "O": 800, "H": 8, "D": 65, "V": 790, "Vp": 800,
             "Tmax": 3, "S": 2, "E": 520, "": 2},
    "flat": {"B": 4, "T": 37, "N": 263, "C": 487, "O": 13, "H": 11, "D": 23, "V": 11, "Vp": 13,
             "Tmax": 41, "S": 263, "E": 487, "": 2},
    "rows": {"B": 1, "T": 1031, "N": 65539, "C": 2, "O": 2, "H": 1, "D": 2, "V": 2, "Vp": 2,
             "Tmax": 1031, "S": 1031, "E": 1021, "": 2},
}
# Of the deep tier alone: long sums over many rows, of which parts are then cut out, and which a
# grid of fixed size walks over; heads of eight channels.
MORE = {"cut": {"B": 5, "T": 3, "N": 67, "C": 776, "O": 21, "H": 3, "D": 172, "V": 774, "Vp": 776,
                "Tmax": 5, "S": 37, "E": 776, "": 3},
        "narrow": {"B": 2, "T": 40, "N": 80, "C": 24, "O": 40, "H": 2, "D": 8, "V": 30, "Vp": 40,
                   "Tmax": 48, "S": 3, "E": 40, "": 3}}
EDGES = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 47, 48, 63, 64, 65, 67, 96, 127,
         128, 129, 192, 255, 256, 257)
INDEXED = ("deep", "spread", "flat", "rows")  # where an index of 16 bits ends
# Whose sizes of an axis that is compiled in are tried: each takes a compiler some seconds.
COMPILED = ("odd", "one", "even", "tile", "over", "under", "long", "wide", "gpt2", "tall", "broad",
            "xl")
COMPILED_MORE = ("narrow",)  # and of the deep tier
SLOW = ("one", "equal", "model", "fourfold", "tall", "broad", "vocabulary", "xl", "wider",
        "pair", *INDEXED)
# SLOW shapes are seen with plain numbers only
FAR = 1 << 16  # where a size is looked for last that the `needs` of an axis allow
HOME = "odd"  # small, distinct and prime: what memory is examined at


class Shapes:
    """Sizes at which `version` applies under some launch configuration."""

    def __init__(self, version: Version, contract: Contract, device):
        self.version, self.contract = version, contract
        self.values, self.precision = device.values, device.precision.name
        self.axes = cases.axes_of(contract)
        self.pools = {axis: self._pool(axis) for axis in self.axes}

    def applies(self, sizes: Mapping[str, int]) -> bool:
        """Whether some launch configuration fits these sizes."""
        return any(not self.version.unmet_needs({**sizes, **p, **self.values})
                   for p in self.version.configurations())

    def allowed(self, sizes: Mapping[str, int]) -> bool:
        return (cases.consistent(sizes) and cases.small_enough(self.contract, sizes)
                and self.applies(sizes))

    def _pool(self, axis: str) -> list[int]:
        """Sizes that `needs` of this axis alone allow; those with other axes are checked later.
        Of an axis that is compiled in, only the spine's."""
        limit = cases.LIMITS.get(axis, cases.LARGEST)
        own = [need for need in self.version.needs if axis in expressions.names(need)
               and not expressions.names(need) & (set(self.axes) - {axis})]
        choices = self.version.configurations()

        def holds(size: int) -> bool:
            return any(all(expressions.evaluate(need, {axis: size, **self.values, **p})
                           for need in own) for p in choices)

        some = _compiled(axis)
        pool = [size for size in range(1, limit + 1)
                if holds(size) and (axis not in self.version.static or size in some)]
        return pool or list(itertools.islice(filter(holds, range(limit, FAR)), 8))

    def _nearest(self, axis: str, size: int) -> int:
        return min(self.pools[axis], key=lambda n: (abs(n - size), n))

    def near(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """The sizes, those of compiled-in axes moved to ones that other checks compile for too."""
        return {axis: self._nearest(axis, size)
                if axis in self.version.static and self.pools[axis] else size
                for axis, size in sizes.items()}

    def spine(self, more: bool = False) -> dict[str, dict[str, int]]:
        """The fixed shapes by name, each moved to where the version applies. `more`: those of the
        deep tier too."""
        found: dict[str, dict[str, int]] = {}
        for name, wanted in {**SPINE, **(MORE if more else {})}.items():
            sizes = {axis: wanted.get(axis, wanted[""]) for axis in self.axes}
            own = {name} & {*COMPILED_MORE}
            sizes |= {axis: min(_compiled(axis, *own), key=lambda n, want=sizes[axis]:
                                (abs(n - want), n))
                      for axis in self.axes if axis in self.version.static}
            if not self.applies(sizes):
                sizes = {axis: self._nearest(axis, size) for axis, size in sizes.items()
                         if self.pools[axis]}
            if len(sizes) == len(self.axes) and self.allowed(sizes) and sizes not in found.values():
                found[name] = sizes
        return found

    def strategy(self, families: tuple[str, ...]) -> st.SearchStrategy[Case]:
        """Hypothesis draws sizes, seed and family; every case applies."""
        if not all(self.pools.values()):
            return st.nothing()
        sizes = st.fixed_dictionaries({
            axis: st.one_of(st.sampled_from([n for n in EDGES if n in set(pool)] or pool),
                            st.sampled_from(pool)) for axis, pool in self.pools.items()})
        return st.builds(self._case, sizes.map(_ordered).filter(self.allowed),
                         st.integers(0, 2**20), st.sampled_from(families))

    def _case(self, sizes: dict[str, int], seed: int, family: str) -> Case:
        ordered = tuple((axis, sizes[axis]) for axis in self.axes)
        return Case(self.contract.name, ordered, seed, family, self.precision)

    def cases(self, seed: int, families: tuple[str, ...], more: bool = False) -> Iterator[Case]:
        """Every shape of the spine with plain numbers, then every family at one of them. Where
        sums are longest, numbers of one size: a first rung may add them one after another."""
        spine = self.spine(more)
        for number, (name, sizes) in enumerate(spine.items()):
            yield self._case(sizes, seed + number, "unit" if name in INDEXED else "randn")
        rows = [s for n, s in spine.items() if n not in (*SLOW, *MORE)] or [*spine.values()]
        for number, family in enumerate(f for f in families if f != "randn" and rows):
            yield self._case(rows[(seed + number) % len(rows)], seed + number, family)


def _compiled(axis: str, *more: str) -> set[int]:
    """Sizes of `axis` in the shapes COMPILED and `more`."""
    every = {**SPINE, **MORE}
    return {every[name].get(axis, every[name][""]) for name in (*COMPILED, *more)}


def _ordered(sizes: dict[str, int]) -> dict[str, int]:
    """V and Vp, T and Tmax the right way round."""
    sizes = dict(sizes)
    for low, high in cases.BELOW.items():
        if low in sizes and high in sizes and sizes[low] > sizes[high]:
            sizes[low], sizes[high] = sizes[high], sizes[low]
    return sizes


def smaller(case: Case) -> Iterator[Case]:
    """Simpler cases near `case`, simplest first: each axis brought down, plain numbers."""
    for axis, size in case.axes:
        tried = sorted({1, 2, 3, size // 8, size // 2, 3 * size // 4, size - 8, size - 1})
        for less in (n for n in tried if 0 < n < size):
            yield case.resized(**{axis: less})
    if case.family != "randn":
        yield replace(case, family="randn")
    if case.seed:
        yield replace(case, seed=0)


@cache
def families_of(name: str) -> tuple[str, ...]:
    """Every family that the contract called `name` gives room for: minus infinity only where the
    mathematics stays defined, repeated indices only where there are indices."""
    contract = contracts.of(name)
    axes = tuple((axis, SPINE[HOME].get(axis, SPINE[HOME][""])) for axis in cases.axes_of(contract))
    drawn = cases.draw(Case(name, axes, 1, "neginf"), contract)
    found = cases.explicit(contract, drawn.inputs)
    defined = not any(np.isnan(value).any() for value in found.values())
    indexed = any(t.role == "I32" and not t.dyn for t in contract.inputs)
    return tuple(f for f in FAMILIES if f not in RARE
                 and (f != "neginf" or defined) and (f != "repeated" or indexed))
