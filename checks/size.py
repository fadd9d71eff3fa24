"""Launches beyond every limit that an index, a count or a grid may have.

For each axis one launch of more than 2^16, 2^20, 2^24 and 2^26 places, all else at two or three;
for each shape of a tensor launches of more than 2^24, 2^29 (2^31 bytes of float32) and 2^31
elements. A case of a few rows is spread over such a launch (growth.py), so what is judged, by the
gate, are rows at both ends, on both sides of those limits, and some at random. On the cpu device
the memory in between is folded (folded.py) and takes none; the GPU has enough; the emulated device
goes as far as its cost allows, beyond the grids that a constant or the number of processors limits.
Axes that cannot grow so are judged whole, at sizes that a truth can be computed for.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from checks import extents, folded, growth, huge, memory_checks
from checks.cases import BELOW, axes_of
from checks.growth import Grown
from checks.sampling import factors
from checks.shapes import Shapes
from checks.trial import Subject, Trial
from ported.binding import product
from ported.contract import Contract, Tensor
from ported.device import NotApplicable

ODD = 17  # beyond the power of two: float32 rounds 2^24 + 17 down
THIN = {"C": 3, "D": 3, "Vp": 3, "Tmax": 3, "": 2}
# Of what stands beside an axis that grows and cannot grow itself: enough for a quick launch.
WIDE = {"C": 1031, "B": 1, "T": 16, "D": 128, "": 2}
ROWS = 33  # places of the other axes of a tensor that is to be large
# Places of one axis; elements of one tensor, where the last stands in for one that took too long.
AXIS = {"cpu": (16, 20, 24, 26), "cuda": (16, 20, 24, 27), "emulated": (11, 16, 19)}
ELEMENTS = {"cpu": (24, 27, 31, 29), "cuda": (24, 27, 31, 32), "emulated": (15, 19)}
# Of C no more: a first rung adds one after another, and that is what would be judged.
WHOLE = {"C": (1 << 17) + ODD, "D": (1 << 16) + ODD, "T": 1543, "V": (1 << 20) + ODD}
LAUNCH, ALL = 14.0, 20.0  # seconds of processor time of one launch, of all on one version


@dataclass(frozen=True)
class Plan:
    """`axis` grows to each of `sizes`, the others are of `small` sizes."""

    axis: str
    small: Mapping[str, int]
    sizes: tuple[int, ...]


def _words(axes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for part in axes for word in factors(part) if not word.isdigit())


def _multiple(tensor: Tensor) -> int:
    """3 of a tensor of the axes B T 3*H*D."""
    return product(int(word) for part in tensor.axes for word in factors(part) if word.isdigit())


def _fills(contract: Contract, axis: str) -> Mapping[str, float] | None:
    return growth.neutral(contract.name, axis)


def _small(contract: Contract, axis: str, others: Mapping[str, int]) -> dict[str, int]:
    """Sizes of the case, `axis` and what may not be shorter wide enough for what is kept."""
    found = {name: others.get(name, others[""]) for name in axes_of(contract)}
    found[axis] = growth.KEPT
    for low, high in BELOW.items():
        if low in found and high in found and found[high] <= found[low]:
            found[high] = found[low] + 1
    return found


def plans(contract: Contract, device: str) -> Iterator[Plan]:
    """One for each axis that grows, then one for each shape of a tensor: its last axis that grows
    with zeros in between, or else the last that grows, until the tensor is as large as wanted."""
    grows = {axis: _fills(contract, axis) for axis in contract.axes}
    quadratic = {"T"} if "D" in contract.axes else set()  # attention's work
    grows = {a: fills for a, fills in grows.items() if fills is not None and a not in quadratic}
    for axis in grows:
        yield Plan(axis, _small(contract, axis, THIN),
                   tuple((1 << power) + ODD for power in AXIS[device]))
    tensors = sorted(contract.tensors, key=_multiple)  # the larger of two alike comes last
    shapes = {_words(t.axes): t.axes for t in tensors if len(_words(t.axes)) > 1}
    shapes = {words: axes for words, axes in shapes.items()
              if not any(set(words) < set(others) for others in shapes)}
    for words, axes in shapes.items():
        able = sorted(set(words) & set(grows), key=lambda a: (not grows[a], words.index(a)))
        if not able:
            continue
        axis = able[-1]
        rest = [word for word in words if word != axis]
        others = {word: WIDE.get(word, WIDE[""]) for word in rest}
        if all(word in grows for word in rest):
            others = dict.fromkeys(rest, 3) | {rest[-1]: max(ROWS // 3 ** (len(rest) - 1), 2)}
        small = _small(contract, axis, {**THIN, **others})
        fixed = product(int(word) if word.isdigit() else small[word]
                        for part in axes for word in factors(part) if word != axis)
        yield Plan(axis, small, tuple(max((1 << power) // fixed * 17 // 16, growth.KEPT) + ODD
                                      for power in ELEMENTS[device]))


def jobs(contract: Contract, device: str) -> list[tuple[Plan, int]]:
    """Each plan at each of its sizes, smallest launches first, of alike ones the largest tensor."""
    found = [(min(step, 2), -number, plan, places)
             for number, plan in enumerate(plans(contract, device))
             for step, places in enumerate(plan.sizes)]
    return [(plan, places) for *_, plan, places in sorted(found, key=lambda job: job[:2])]


def fitting(subject: Subject, shapes: Shapes, plan: Plan, size: int, seed: int) -> Grown | None:
    """The launch, moved to sizes that the version takes; None where there are none."""
    contract, version = subject.contract, subject.version
    if plan.axis in version.static:
        return None
    fixed = {plan.axis, BELOW.get(plan.axis)} | {t for t in BELOW if BELOW[t] == plan.axis}
    for others in (None, 8, 64, 128):
        small = {axis: length if others is None or axis in fixed else others
                 for axis, length in plan.small.items()}
        for places in (size, -(-size // 1024) * 1024):
            launch = growth.grown(contract, plan.axis, shapes.near(small), places, seed,
                                  subject.device.precision.name, _fills(contract, plan.axis))
            if subject.applies(launch.sizes):
                return launch
    return None


class Patience:
    """Processor time spent, and what the next launch of a plan is expected to take."""

    def __init__(self, subject: Subject):
        self.clock = time.monotonic if subject.device.name == "cuda" else time.process_time
        self.spent, self.last = 0.0, {}

    def reached(self, plan: Plan) -> int:
        """Places of its largest launch."""
        return self.last.get(id(plan), (0.0, 0))[1]

    def allows(self, plan: Plan, size: int) -> bool:
        seconds, before = self.last.get(id(plan), (0.0, size))
        expected = seconds * size / before
        return expected <= LAUNCH and self.spent + expected <= ALL

    def took(self, plan: Plan, size: int, seconds: float) -> None:
        self.spent += seconds
        self.last[id(plan)] = seconds, size


def size(subject: Subject, shapes: Shapes, seed: int) -> None:
    """Every plan, smallest launches first, as far as patience goes."""
    extents.examine(subject, huge.NAME)
    device, ledger = subject.device.name, subject.ledger
    if subject.version.language == "py":
        ledger.not_run["size: a vendor's library"] += 1
        return
    if device == "cpu" and not folded.available():
        ledger.not_run["size: this system does not fold memory"] += 1
        return
    patience = Patience(subject)
    for plan, places in jobs(subject.contract, device):
        if patience.reached(plan) > places:
            continue
        launch = fitting(subject, shapes, plan, places, seed)
        if launch is None:
            ledger.not_run["size: launches that the version's needs do not allow"] += 1
        elif not patience.allows(plan, places):
            ledger.not_run["size: launches that would take too long"] += 1
        elif huge.too_large(subject, launch):
            ledger.not_run["size: launches that the memory does not allow"] += 1
        else:
            subject.say(f"size {launch}")
            runner = subject.device
            if device == "cpu":  # each of the rows is some thread's first
                runner = memory_checks.with_threads(runner, ROWS)
            try:
                seconds = huge.spread(subject, launch, runner, patience.clock)
                patience.took(plan, places, seconds)
            except NotApplicable:
                ledger.not_run["cases that the device or its library declines"] += 1
    _whole(subject, shapes, seed)


def _whole(subject: Subject, shapes: Shapes, seed: int) -> None:
    """Axes that cannot grow, at sizes that a truth is computed for."""
    contract = subject.contract
    grows = {plan.axis for plan in plans(contract, subject.device.name)}
    for axis in (axis for axis in contract.axes if axis not in grows and axis in WHOLE):
        small = {name: 1 for name in axes_of(contract)} | {axis: WHOLE[axis]}
        small |= {"D": 2} if axis == "T" and "D" in small else {}
        small |= {BELOW[axis]: WHOLE[axis] + 1} if BELOW.get(axis) in small else {}
        if subject.applies(small) and subject.affords(small) and axis not in (
                subject.version.static):
            trial = Trial(subject, shapes._case(small, seed, "unit"), (huge.NAME,))
            trial.judge(trial.run())
        else:
            subject.ledger.not_run["size: launches that the version's needs do not allow"] += 1
