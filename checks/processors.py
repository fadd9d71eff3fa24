"""Grids made of the device's multiprocessors, where it has one and where it has many.

A version that asks how many there are walks over rows with a grid of so many blocks, and takes
together as many parts. How often either loop turns is the device's matter: with 4 of them there are
a dozen parts, none beyond the first turn of a warp. So the same version is launched on emulated
devices of other sizes.
"""

from collections.abc import Iterator

from checks import tiers
from checks.cases import Case
from checks.device_checks import emulated
from checks.shapes import Shapes
from checks.trial import Broken, Subject, Trial

NAME = "processors"
ASKED = "multiprocessors"
COUNTS = (1, 37, 132, 260)  # one; a number that no tile divides; an H200's; far more
# Many rows of few columns, and elements for the grid of 132; then rows in packets.
SHAPES = ({"N": 600, "C": 3, "V": 5, "Vp": 7, "S": 3, "E": 200003},
          {"N": 160, "C": 64, "V": 24, "Vp": 24, "S": 37, "E": 1032})


def processors(subject: Subject, shapes: Shapes, seed: int) -> None:
    """The gate, whatever the number; under `deterministic` the same bits again, in another order of
    threads and over other memory. (From one number to another sums may be cut otherwise: no claim
    speaks of that.)"""
    if not asks(subject.version):
        subject.ledger.not_run[f"{NAME}: the version does not ask how many there are"] += 1
        return
    for case in cases_of(subject, shapes, seed, SHAPES):
        for count in COUNTS:
            _on(subject, case, count)


def asks(version) -> bool:
    """Whether the number of multiprocessors has a say in what `version` does."""
    texts = [text for launch in version.launches
             for text in (launch.grid, launch.block, launch.shared)]
    texts += [axis for part in version.scratch for axis in part.axes] + list(version.needs)
    named = {p.name for parameters in version.parameters.values() for p in parameters}
    return ASKED in named or any(ASKED in text for text in texts)


def cases_of(subject: Subject, shapes: Shapes, seed: int, wanted) -> Iterator[Case]:
    """A case for each of the shapes, which name the axes that matter: the others are 2 long. Those
    that the version or the judge of its results cannot have are counted."""
    for number, sizes in enumerate(wanted):
        sizes = {axis: sizes.get(axis, 2) for axis in shapes.axes}
        if shapes.allowed(sizes) and subject.applies(sizes):
            yield shapes._case(sizes, seed + number, "randn")
        else:
            subject.ledger.not_run[f"{subject.phase}: shapes that the version cannot have"] += 1


def _on(subject: Subject, case: Case, count: int) -> None:
    device = emulated(case.precision, multiprocessors=count)
    integers = {**case.sizes, **subject.parameters, **device.values}
    limit = subject.tier.cost
    if subject.version.unmet_needs(integers) or (
            limit is not None and tiers.cost(subject.version, case.sizes, integers) > limit):
        subject.ledger.not_run[f"{NAME}: sizes that {count} of them cannot have or afford"] += 1
        return
    what = f"on {count} multiprocessors: "
    trial = Trial(subject, case, [NAME])
    try:
        first = _launch(trial, device, fill="nan", guard="nan")
        trial.judge(first, [NAME], what)
        other = emulated(case.precision, multiprocessors=count, schedule="random", seed=1)
        again = _launch(trial, other, fill="random", guard="random")
        trial.same(NAME, first, again, f"{what}threads in another order, over other memory")
    except Broken:  # the other numbers are looked at all the same
        return


def _launch(trial: Trial, device, **how):
    stage = trial.subject.stage(trial.case.sizes, device)
    trial.subject.say(f"{NAME} {trial.case} {device.values}")
    result = trial.launched(stage, None, how, NAME)
    for check, output, message in result.faults:
        trial.refuse(check, output, message)
    return result
