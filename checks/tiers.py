"""How much of everything a proof runs, by tier and device.

The emulated device is slow where a kernel launches many threads: there a tier looks at fewer shapes
and leaves out those that would cost more than `cost`, an estimate in additions: each axis of the
operation once, START for every thread that is launched, and what threads of a grid that does not
grow with the rows do again for each row.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from checks.cases import BELOW
from checks.shapes import HOME, MORE, SPINE
from ported import expressions
from ported.source import Version

START = 16  # additions that starting a thread costs as much as
VISITS = 32  # of a row by a thread, where a grid of fixed size walks over the rows: one addition
BATCH = ("N", "B", "S")


@dataclass(frozen=True)
class Tier:
    """Cases drawn by hypothesis for the first configuration and for the others, and the shapes of
    the spine at which memory and laws are examined. Without `spine` nothing but drawn cases is run:
    many seeds of that show whether an honest version is ever accused; and `more` checks, to see
    what they add to the fast tier.

    `offsets`: pointers are shifted by up to so many elements; `repeats`, `many`: launches in a row
    with and without a look; `cost`: of the largest launch, None for no limit; `every`: whether
    all configurations meet all families and laws, or those after the first plain numbers alone,
    and memory is examined at one shape; `more`: whether the checks that no other tier affords are
    run (more_checks.py); `file`: whether the compiled file is looked at, which no seed changes.
    """

    drawn: int
    others: int
    memory: tuple[str, ...] = (HOME, "one", "even", "over", "long")
    laws: tuple[str, ...] = (HOME, "over", "long")
    spine: bool = True
    offsets: int = 15
    repeats: int = 12
    many: int = 400
    cost: int | None = None
    every: bool = True
    more: bool = False
    file: bool = True


ALL = (*SPINE, *MORE)
TIERS = {"fast": Tier(30, 8), "deep": Tier(400, 100, ALL, ALL, more=True),
         "more": Tier(1, 1, spine=False, more=True), "seeds": Tier(3, 1, spine=False, file=False)}
EMULATED = {
    "fast": Tier(10, 3, (HOME, "even", "over"), (HOME,), offsets=9, repeats=2, many=8, cost=1 << 20,
                 every=False),
    "deep": Tier(100, 30, ALL, ALL, repeats=4, many=20, cost=1 << 24, more=True),
    "more": Tier(1, 1, spine=False, cost=1 << 24, more=True),
    "seeds": Tier(3, 1, spine=False, cost=1 << 20, file=False)}


def of(name: str, device) -> Tier:
    """The tier called `name` on a device."""
    return (EMULATED if device.name == "emulated" else TIERS)[name]


def cost(version: Version, sizes: Mapping[str, int], values: Mapping[str, int]) -> int:
    """Of one launch of every function of `version`: see the head of this file. `values`: tuned
    parameters and what the device says."""
    apart = [size for axis, size in sizes.items() if BELOW.get(axis) not in sizes]
    work = int(np.prod([float(size) for size in apart]))  # V within Vp, T within Tmax: one axis
    if "H" in sizes:
        work *= sizes["T"]  # each position meets those before it
    threads = visits = 0
    batch = next((axis for axis in BATCH if axis in sizes), None)
    for launch in version.launches:
        grid, block, fewer = (expressions.evaluate(text, integers) for text, integers in (
            (launch.grid, {**sizes, **values}), (launch.block, {**sizes, **values}),
            (launch.grid, {**sizes, **values, batch: max(sizes.get(batch, 1) // 2, 1)})))
        threads += grid * block
        visits += block * sizes.get(batch, 1) * (grid == fewer)
    return work + START * threads + visits // VISITS
