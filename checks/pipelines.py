"""Loops that load ahead, over more stages than they have room for.

A kernel that asks for the next tile while it works on this one is in danger in its third turn,
when a room is used again; with asynchronous copies only where rows are packets of 16 bytes. No
shape of the spine has both for every operation. These have: many stages of each axis in turn, all
multiples of 8. One multiprocessor makes a grid that walks over rows take as many turns as can be.
"""

from checks.device_checks import SCHEDULES, emulated
from checks.processors import asks, cases_of
from checks.shapes import Shapes
from checks.trial import Broken, Subject, Trial

NAME = "pipelines"
# The axis that is summed over is long in one of them for every operation; keys in tiles of 64.
SHAPES = (
    {"B": 1, "T": 200, "H": 1, "D": 16, "N": 8, "C": 192, "O": 8, "V": 8, "Vp": 8, "Tmax": 208,
     "S": 8, "E": 192},
    {"B": 2, "T": 136, "H": 1, "D": 64, "N": 192, "C": 64, "O": 192, "V": 192, "Vp": 192,
     "Tmax": 136, "S": 2, "E": 1032})
RACES = ("fifo", "warps")  # schedules: nobody overtakes, one warp far ahead


def pipelines(subject: Subject, shapes: Shapes, seed: int) -> None:
    """The gate, other orders of threads, and every access ordered against the others'."""
    for case in cases_of(subject, shapes, seed, for_version(subject.version)):
        if not subject.affords(case.sizes):
            subject.ledger.not_run[f"{NAME}: shapes that cost more than {subject.tier.cost}"] += 1
            continue
        try:
            _at(Trial(subject, case, [NAME]))
        except Broken:  # the other shapes are looked at all the same
            continue


def for_version(version) -> list[dict[str, int]]:
    """The shapes. An axis that is compiled in takes its sizes from the spine's (shapes.py)."""
    moved = {"C": 128} if "C" in version.static else {}
    return [{**sizes, **(moved if sizes["C"] == 192 else {})} for sizes in SHAPES]


def _at(trial: Trial) -> None:
    few = {"multiprocessors": 1} if asks(trial.subject.version) else {}

    def run(**how):
        device = emulated(trial.case.precision, **few, **how)
        trial.subject.say(f"{NAME} {trial.case} {how}")
        stage = trial.subject.stage(trial.case.sizes, device)
        return trial.launched(stage, None, {}, NAME)

    first = run()
    trial.judge(first, [NAME])
    for schedule, number in SCHEDULES:
        trial.same(NAME, first, run(schedule=schedule, seed=number),
                   f"threads in the order {schedule}, seed {number}")
    for schedule in RACES:
        run(flavour="races", schedule=schedule, seed=1)
