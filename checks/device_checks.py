"""Checks that a device makes possible: schedules and sanitizers (emulated), reruns (cuda), and what
the compiled code says (artifact.py).

A check that a device cannot make is counted among what did not run.
"""

from functools import cache

from checks import artifact
from checks.launch import Result
from checks.trial import Subject, Trial
from ported import device as devices

SCHEDULES = (("reverse", 0), ("random", 1), ("random", 2), ("warps", 1), ("warps", 2))
SANITIZERS = (("addresses", "fifo"), ("races", "fifo"), ("races", "warps"))
RERUNS = 40


@cache
def emulated(precision: str, **how):
    """The emulated device with another schedule or flavour."""
    return devices.open("emulated", precision=precision, **how)


def schedules(trial: Trial, first: Result) -> None:
    """Threads and blocks in other orders: bitwise equal under `deterministic`."""
    for schedule, seed in SCHEDULES:
        device = emulated(trial.case.precision, schedule=schedule, seed=seed)
        again = trial.run(stage=trial.subject.stage(trial.case.sizes, device))
        trial.same("schedule", first, again, f"threads in the order {schedule}, seed {seed}")


def sanitizers(trial: Trial, first: Result) -> None:
    """Every access inside its buffer, aligned, of written memory, and ordered against the others';
    buffers off an aligned place too, all and one at a time."""
    if trial.ledger.spared("sanitizers"):
        return
    shifted = [{"shifts": {name: 1 + number % 3 for number, name in enumerate(trial.stage.shapes)}},
               *({"shifts": {name: 1}} for name in trial.stage.shapes)]
    for flavour, schedule in SANITIZERS:
        device = emulated(trial.case.precision, flavour=flavour, schedule=schedule, seed=1)
        stage = trial.subject.stage(trial.case.sizes, device)
        for how in ({}, *shifted) if flavour == "addresses" else ({},):
            trial.subject.say(f"sanitizers {trial.case} {flavour} {schedule}")
            trial.launched(stage, None, how, "sanitizers")


def reruns(trial: Trial, first: Result) -> None:
    """The same launch many times, over changing contents of everything else."""
    for number in range(RERUNS):
        again = trial.run(fill=("nan", "random", "huge")[number % 3], skip=256 * (number % 7))
        trial.same("schedule", first, again, f"launch {number + 2} of the same")
    reason = "sanitizers: the emulated device runs them"
    trial.ledger.not_run[reason] = 1


def of(device) -> tuple:
    """The checks of a device that look at one case."""
    return {"emulated": (schedules, sanitizers), "cuda": (reruns,)}.get(device.name, ())


def of_the_file(subject: Subject) -> None:
    """The checks that look at the compiled file."""
    if subject.device.language == "c" or subject.ledger.spared("artifact"):
        return
    subject.phase = "artifact"
    subject.say("artifact")
    artifact.examine(subject)
    subject.phase = "launch"
