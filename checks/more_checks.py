"""The checks that only the deep tier affords, each over shapes of its own.

A check is `name(subject, shapes, seed)`: it makes its own cases, counts each with
`subject.ledger.ran(name)` and refuses through a Trial. Its number stands here, apart from those of
the other tiers, so that evidence of the fast tier does not go stale with it.
"""

from collections.abc import Callable, Mapping

from checks import (
    draws,
    environment,
    huge,
    late,
    leftovers,
    pipelines,
    processors,
    round_sizes,
    scalars,
    size,
)
from checks.shapes import Shapes
from checks.trial import Subject

CHECKS: dict[str, dict[str, int]] = {
    "cpu": {"scalars": 1, "extremes": 1, "largest": 1, "smallest": 1, "leftovers": 1,
            "races": 1, "late": 1, "environment": 2, "round": 1, "size": 2},
    "emulated": {"scalars": 1, "extremes": 1, "largest": 1, "smallest": 1, "leftovers": 1,
                 "processors": 1, "pipelines": 1, "draws": 1, "round": 1, "size": 2},
    "cuda": {"scalars": 1, "extremes": 1, "largest": 1, "smallest": 1, "leftovers": 1, "draws": 1,
             "round": 1, "size": 2},
}
BY_NAME: Mapping[str, Callable] = {
    "processors": processors.processors,
    "pipelines": pipelines.pipelines,
    "draws": draws.draws,
    "round": round_sizes.round_sizes,
    "leftovers": leftovers.leftovers,
    "size": size.size,
    "scalars": scalars.scalars,
    "extremes": scalars.extremes,
    "largest": scalars.largest,
    "smallest": scalars.smallest,
    "races": late.races,
    "late": late.late,
    "environment": environment.environment,
}


def numbers(device) -> dict[str, int]:
    """Name and version of each check that a deep proof on this device has besides."""
    return CHECKS[device.name]


def examine(subject: Subject, shapes: Shapes, seed: int, first: bool = True) -> None:
    """Every one of them on a version's `first` launch configuration; on its last only what depends
    on how many blocks and threads there are."""
    for name in CHECKS[subject.device.name] if first else (huge.NAME,):
        if name == huge.NAME and subject.ledger.spared(name):
            continue
        subject.phase = name
        BY_NAME[name](subject, shapes, seed)
    subject.phase = "launch"
