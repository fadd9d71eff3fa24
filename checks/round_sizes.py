"""Round sizes, where a tile divides an axis and no tail is left; all axes beyond a tile at once.

A loop that forgets its last whole tile, or takes it twice, is right at every size that the tile
does not divide. So each axis is brought to powers of two and to the widths of GPT-2's sizes, all
others staying small; then all of them beyond a block at once, where a panel that is packed for one
block may be used for the next. Numbers of hard families stand in the long rows, too. On the cpu
device teams are powers of two as well: what is shared out evenly has no last, shorter part. Rows
that are claimed to keep their bits whatever else is in the batch are taken out of a large one.
"""

import itertools
import time
from collections.abc import Iterator

import numpy as np

from checks import laws
from checks.cases import BELOW, consistent
from checks.memory_checks import with_threads
from checks.shapes import Shapes, families_of
from checks.size import THIN
from checks.trial import Subject, Trial
from ported import expressions
from ported.device import NotApplicable

NAME = "round"
NOWHERE = f"{NAME}: sizes that the version or the device cannot have"
POWERS = (128, 256, 512, 1024, 2048, 4096, 8192)
# Those of GPT-2's sizes among them.
WIDTHS = (192, 384, 640, 768, 1280, 1536, 1600, 2304, 3072, 5120, 6144, 6400)
BOTH = tuple(sorted(POWERS + WIDTHS))
AXES = {"C": BOTH, "E": BOTH, "O": BOTH, "Vp": (*POWERS, 50304),
        "V": POWERS, "N": POWERS, "B": (16, 32, 64, 128, 256), "H": (8, 16, 32, 64),
        "S": (64, 128, 256, 512), "T": (256, 384, 128, 192, 64, 512), "Tmax": (1024,)}
# Beside them: packets of eight; a head of GPT-2.
BESIDE = {"N": {"C": 8, "O": 8}, "T": {"D": 64, "H": 1, "B": 1}, "H": {"T": 4, "D": 64, "B": 1}}
INVARIANT = {"B": 40, "T": 9, "N": 1100, "C": 72, "O": 24, "H": 2, "D": 64, "V": 50, "Vp": 64,
             "Tmax": 9, "S": 600, "E": 64}  # many rows, of sums of more than a few terms
BLOCKS = ({"N": 133, "C": 531, "O": 531, "B": 1, "T": 133, "H": 2, "D": 64, "V": 515, "Vp": 531,
           "Tmax": 144, "S": 7, "E": 1537},
          {"N": 531, "C": 401, "O": 133, "B": 5, "T": 37, "H": 2, "D": 64, "V": 1037, "Vp": 1041,
           "Tmax": 37, "S": 3, "E": 4099},
          {"N": 320, "C": 256, "O": 384, "B": 2, "T": 64, "H": 4, "D": 64, "V": 700, "Vp": 768,
           "Tmax": 256, "S": 6, "E": 2048})
ELEMENTS, WORK = 6_000_000, 120_000_000  # of a case's tensors; multiplications
TEAMS, FEW = (4, 8, 16, 128), (1, 2, 1)  # threads; those of BLOCKS, so that each has several
# Where a need that ties axes is looked for.
TIED = sorted({*range(1, 33), *range(40, 1025, 8), *BOTH, 12288, 16384, 20480, 25600})
HARD = ("large", "outlier", "mean1000", "negative", "huge", "squares")  # families
SECONDS = {"cpu": 4.0, "emulated": 3.0, "cuda": 10.0}  # of the processor's time, on one version


def wanted(axes: tuple[str, ...]) -> Iterator[dict[str, int]]:
    """Sizes, those of all axes first, then one axis after the other, smallest first."""
    small = {axis: THIN.get(axis, THIN[""]) for axis in axes}
    blocks = BLOCKS[:1] if "D" in axes else BLOCKS
    yield from ({axis: sizes[axis] for axis in axes} for sizes in blocks)
    lists = [[(axis, size) for size in AXES.get(axis, ())] for axis in axes]
    for step in itertools.zip_longest(*lists):
        for axis, size in filter(None, step):
            more = BESIDE.get(axis, {}) if axis != "T" or "D" in axes else {}
            sizes = {**small, **{a: n for a, n in more.items() if a in axes}, axis: size}
            for low, high in BELOW.items():
                if low in sizes and high in sizes:
                    sizes[high] = max(sizes[high], sizes[low])
            yield sizes


def _tied(subject: Subject, sizes: dict[str, int]) -> Iterator[dict[str, int]]:
    """The sizes, and one axis moved to where a need that ties it to others holds."""
    yield sizes
    for need in subject.version.needs:
        for axis in sorted(expressions.names(need) & set(sizes), key=sizes.get):
            for size in TIED:
                found = {**sizes, axis: size}
                if subject.applies(found):
                    yield found
                    break


def fitted(subject: Subject, shapes: Shapes, sizes: dict[str, int]) -> dict[str, int] | None:
    """The sizes, the small ones moved to where the version applies; None where it does not."""
    static = subject.version.static
    sizes = shapes.near(sizes)
    for least in (0, 8, 64, 128):
        found = {axis: size if axis in static or size > 16 else max(size, least)
                 for axis, size in sizes.items()}
        for low, high in BELOW.items():
            if low in found and high in found:
                found[high] = max(found[high], found[low])
        for one in _tied(subject, found):
            if subject.applies(one) and consistent(one) and affordable(subject, one):
                return one
    return None


def affordable(subject: Subject, sizes: dict[str, int]) -> bool:
    """Whether a truth is computed, and a launch made, in reasonable time."""
    contract = subject.contract
    elements = sum(np.prod([float(n) for n in t.shape(sizes)]) for t in contract.tensors)
    work = (contract.stated("FLOPS", sizes) or 0) / 2
    return elements <= ELEMENTS and work <= WORK and subject.affords(sizes)


def jobs(subject: Subject, shapes: Shapes) -> list[tuple[dict[str, int], str]]:
    """Sizes and family of each launch: plain numbers, and beyond BLOCKS those of another family."""
    found = []
    for sizes in wanted(shapes.axes):
        sizes = fitted(subject, shapes, sizes)
        if sizes is None:
            subject.ledger.not_run[NOWHERE] += 1
        elif sizes not in found:
            found.append(sizes)
    known = families_of(subject.contract.name)
    families = itertools.cycle(f for f in HARD if f in known)
    return [(sizes, family) for number, sizes in enumerate(found)
            for family in ("unit", next(families))[:1 if number < len(BLOCKS) else 2]]


def round_sizes(subject: Subject, shapes: Shapes, seed: int) -> None:
    """The gate at each of them, as far as patience goes; what is left out is counted."""
    start = time.process_time()
    _rows(subject, shapes, seed)
    teams = itertools.chain(FEW, itertools.cycle(TEAMS))
    for number, (sizes, family) in enumerate(jobs(subject, shapes)):
        if time.process_time() - start > SECONDS[subject.device.name]:
            subject.ledger.not_run[f"{NAME}: cases that would take too long"] += 1
        else:
            _judged(subject, shapes._case(sizes, seed + number, family), next(teams))


def _rows(subject: Subject, shapes: Shapes, seed: int) -> None:
    """The same rows among fewer others, where it is claimed that they keep their bits."""
    if not subject.claims("batch_invariant"):
        return
    sizes = fitted(subject, shapes, {axis: INVARIANT[axis] for axis in shapes.axes})
    if sizes is None:
        subject.ledger.not_run[NOWHERE] += 1
        return
    trial = Trial(subject, shapes._case(sizes, seed, "randn"), (NAME,))
    laws.rows(trial, trial.run())


def _judged(subject: Subject, case, team: int) -> None:
    try:
        trial = Trial(subject, case, (NAME,))
        stage = None
        if subject.device.name == "cpu":
            integers = {**case.sizes, **subject.parameters, "threads": team}
            if not subject.version.unmet_needs(integers):
                stage = subject.stage(case.sizes, with_threads(subject.device, team))
        if trial.known.judgeable:
            trial.judge(trial.run(stage=stage))
    except NotApplicable:
        subject.ledger.not_run["cases that the device or its library declines"] += 1


__all__ = ["jobs", "round_sizes"]
