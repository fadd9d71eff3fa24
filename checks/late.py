"""Threads that come late, and what threads of a C kernel do to each other's memory.

`races` looks at every access (races.c): two threads at the same place, one writing, with no barrier
between. `late` lets one thread of a team after the other sleep wherever it enters, passes a barrier
or gets work: results are what they were, which a kernel that is right by luck of timing does not
give. It asks teams of more threads than the machine has, too, and looks again some time after the
return, for threads that nobody waited for.
"""

import ctypes
import time
from collections.abc import Iterator

import numpy as np

from checks import watched
from checks.launch import Result, _region
from checks.shapes import Shapes
from checks.trial import Broken, Subject, Trial

# Where many threads have work; of those, what an operation can be judged at.
SHAPES = ("over", "flat", "fourfold", "tall", "gpt2")
# A team, and who of it is late: thread k - 1, or, below 0, some by chance with that seed. Kernels
# that count on at most 8 or 64 threads do so beyond what a machine at hand may have.
TEAMS = ((2, (1, 2)), (3, (1, 2, 3, -1)), (7, (1, 4, 7, -1, -2)), (19, (1, 19, -1)),
         (70, (1, 70, -1)))
LARGE = ("over", "flat")  # shapes for teams beyond SMALL, whose scratch grows with them
SMALL = 7
RACES = (2, 3, 7, 19)
AFTER = 0.005  # seconds after the return: longer than a thread of late.c sleeps before it begins


def trials(subject: Subject, shapes: Shapes, seed: int, names, check: str) -> Iterator:
    """(name, trial) at the shapes of the spine of these names that apply here."""
    cases = dict(zip(shapes.spine(), shapes.cases(seed, ()), strict=True))
    for name in names:
        case = cases.get(name)
        if case and subject.applies(case.sizes) and subject.affords(case.sizes):
            subject.say(f"{check} {case} {subject.parameters or ''}")
            yield name, Trial(subject, case, [check])


def base(trial: Trial) -> Result:
    """What others are held against; it may itself have come too late."""
    first = trial.run()
    trial.judge(first)
    return first


def stage_of(trial: Trial, threads: int, races: bool = False):
    """The case with so many threads on a watched device; None where the version needs others."""
    subject = trial.subject
    integers = {**trial.case.sizes, **subject.parameters, "threads": threads}
    if subject.version.unmet_needs(integers):
        subject.ledger.not_run[f"teams of {threads} threads: the version needs others"] += 1
        return None
    return subject.stage(trial.case.sizes, watched.device(threads, races))


def regions(stage) -> int:
    """Parallel regions that the library of a stage has entered so far."""
    return watched.variable(stage.kernel.library, "trivium_regions", ctypes.c_int64).value


def threadless(trial: Trial) -> bool:
    """Whether the version has no teams of threads, or none that can be stood in between of."""
    stage = stage_of(trial, 2) or stage_of(trial, trial.subject.device.threads)
    before = regions(stage)
    trial.run(stage=stage)
    if regions(stage) > before:
        return False
    ledger, text = trial.ledger, trial.subject.version.text
    ledger.not_run["late, races: no team of threads" + (
        " of GNU's OpenMP" if "omp parallel" in text else "")] += 1
    return True


def races(subject: Subject, shapes: Shapes, seed: int) -> None:
    """No two threads at the same place, one of them writing, without a barrier between."""
    for _, trial in trials(subject, shapes, seed, shapes.spine(), "races"):
        if threadless(trial):
            return
        for count in RACES:
            stage = stage_of(trial, count, races=True)
            if stage is None:
                continue
            try:
                trial.launched(stage, None, {}, "races")
            except Broken:
                return
            device = stage.device
            if device.abstained:
                subject.ledger.not_run[f"races: {device.abstained}"] += 1
            elif device.busy > 1:
                subject.ledger.ran("races")


def late(subject: Subject, shapes: Shapes, seed: int) -> None:
    """The same results whichever thread is late, and however many there are."""
    for name, trial in trials(subject, shapes, seed, SHAPES, "late"):
        first = base(trial)
        alone = threadless(trial)
        for count, whos in TEAMS[:1] if alone else TEAMS:
            stage = stage_of(trial, count) if count <= SMALL or name in LARGE else None
            for number, who in enumerate(whos if stage else ()):
                with late_by(stage, who, even=number % 2):
                    again = settled(trial, stage)
                what = f"thread {who - 1} of {count} late" if who > 0 else (
                    f"some threads of {count} late")
                trial.same("late", first, again, f"with {what}")
        if alone:
            return


class late_by:  # noqa: N801 (a context, named as it is read)
    """While it lasts, this thread is late in the library of a stage."""

    def __init__(self, stage, who: int, even: int = 0):
        self.library, self.wanted = stage.kernel.library, {"trivium_late": who,
                                                           "trivium_even": even}

    def __enter__(self) -> None:
        for name, value in self.wanted.items():
            watched.variable(self.library, name).value = value

    def __exit__(self, *_) -> None:
        for name in self.wanted:
            watched.variable(self.library, name).value = 0


def settled(trial: Trial, stage) -> Result:
    """One launch; memory stays afterwards as the return left it."""
    found = trial.run(stage=stage)
    size = stage.places({})[1]
    memory = stage.device.array(_region(stage.device, size), (size,), "uint8")
    before = memory.copy()
    time.sleep(AFTER)
    wrong = np.flatnonzero(before != memory)
    if wrong.size:
        trial.refuse("late", "", f"{wrong.size} bytes were written after the kernel had returned")
    return found
