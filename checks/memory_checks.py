"""Checks on how a kernel meets memory: poison, accumulate, guards, pointers, sequences, threads.

`frozen` and the writing half of `guards` have no function here: every launch carries them.
"""

from dataclasses import replace

import numpy as np

from checks import known
from checks.launch import FILLS, Result
from checks.trial import Trial
from ported import device as devices
from ported.binding import product

THREADS = (1, 2, 3, 7, 19)


def base(trial: Trial) -> Result:
    """Sum from zero, everything else full of NaN: the result that all others are held against."""
    return trial.run(fill="nan", guard="nan")


def quick(trial: Trial, first: Result) -> None:
    """The gate; then one launch in which all that may differ differs."""
    trial.judge(first)
    starts = trial.known.starts(trial.contract)
    second = trial.run(fill="random", guard="random", starts=starts)
    whole = [name for name in second.outputs if name not in starts]
    trial.same("poison", first, second, "over random bytes instead of NaN", whole)
    if starts:
        trial.judge(second.only(starts), ["accumulate"], "added to random numbers: ", starts)


def poison(trial: Trial, first: Result) -> None:
    """What stood in outputs and scratch has no influence."""
    for fill in FILLS[1:3]:
        again = trial.run(fill=fill)
        trial.same("poison", first, again, f"outputs and scratch held {fill} instead of NaN")


def accumulate(trial: Trial, first: Result) -> None:
    """Sum outputs add to what stands there, once a launch; the others overwrite."""
    starts = trial.known.starts(trial.contract)
    if not starts:
        trial.ledger.not_run["accumulate: no Sum output"] += 1
        _overwrites(trial, first)
        return
    once = trial.run(starts=starts)
    sums = once.only(starts)
    trial.judge(sums, ["accumulate"], "added to random numbers: ", starts)
    twice = trial.run(starts=sums.outputs)
    trial.judge(twice.only(starts), ["accumulate"], "added a second time: ", sums.outputs)
    whole = [name for name in twice.outputs if name not in starts]
    trial.same("accumulate", first, twice, "a second launch", whole)
    if not any(t.access == "inout" for t in trial.contract.outputs):
        both = trial.run(starts=starts, calls=2)
        if trial.subject.claims("deterministic"):
            trial.same("accumulate", twice, both, "two calls on the same memory")


def _overwrites(trial: Trial, first: Result) -> None:
    if all(t.access == "out" for t in trial.contract.outputs):
        trial.same("accumulate", first, trial.run(calls=2), "a second call over the first's result")


def guards(trial: Trial, first: Result) -> None:
    """Nothing outside a buffer is read, and (in every launch) nothing there is written."""
    for guard in FILLS[1:]:
        again = trial.run(guard=guard)
        trial.same("guards", first, again, f"memory around the buffers held {guard} instead of "
                   "NaN, so it was read")


def pointers(trial: Trial, first: Result) -> None:
    """Any element may be the first: buffers all shifted alike, then each by another amount."""
    names, offsets = list(trial.stage.shapes), range(1, trial.subject.tier.offsets + 1)
    random = np.random.default_rng(trial.case.seed)
    plans = [dict.fromkeys(names, offset) for offset in offsets]
    plans += [dict(zip(names, map(int, random.integers(0, 16, len(names))), strict=True))
              for _ in range(4)]
    plans += [{name: 1} for name in names]  # the others aligned: whoever asks only them is wrong
    for plan in plans:
        again = trial.run(shifts=plan)
        shown = ", ".join(f"{name}+{shift}" for name, shift in plan.items())
        trial.same("pointers", first, again, f"with pointers off an aligned place ({shown})")


def sequence(trial: Trial, first: Result) -> None:
    """Calls do not know of each other: contents, shapes and places change, and come back."""
    case, subject, tier = trial.case, trial.subject, trial.subject.tier
    other = known.of(replace(case, seed=case.seed + 1), trial.contract)
    changed = trial.run(other.inputs)
    trial.judge(changed, ["sequence"], "same pointers, other contents: ", truth=other.truth,
                stock=False)
    for axis, size in case.axes:
        near = case.resized(**{axis: size + 1})
        if subject.applies(near.sizes) and size < 300:
            Trial(subject, near, ["sequence"]).judge(
                Trial(subject, near).run(), ["sequence"], f"after {axis}={size}: ", stock=False)
            break
    trial.same("sequence", first, trial.run(), "back at the first shape and contents")
    trial.same("sequence", first, trial.run(skip=1 << 16), "at fresh addresses")
    for _ in range(tier.repeats):
        again = trial.run()
    trial.same("sequence", first, again, f"launch {tier.repeats + 6} of the same")
    if product(size for _, size in case.axes) < 1 << 14:
        trial.run(calls=tier.many)
        trial.same("sequence", first, trial.run(), f"after {tier.many} launches more")


def inplace(trial: Trial, first: Result) -> None:
    """An output that the version says may lie on an input gives the same there."""
    pairs = trial.subject.version.inplace
    if not pairs:
        trial.ledger.not_run["inplace: not claimed"] += 1
        return
    for pair in [*({output: source} for output, source in pairs.items()), pairs]:
        again = trial.run(inplace=pair)
        shown = ", ".join(f"{output} on {source}" for output, source in pair.items())
        trial.same("inplace", first, again, f"with {shown}")


def threads(trial: Trial, first: Result) -> None:
    """`deterministic`: the same bits in every run and for every number of threads."""
    if trial.subject.device.language != "c":
        return  # the launch says how many
    for count in THREADS:
        stage = trial.subject.stage(trial.case.sizes, with_threads(trial.subject.device, count))
        again = trial.run(stage=stage)
        trial.same("claims", first, again, f"with {count} threads")


_DEVICES: dict[tuple[str, int], object] = {}


def with_threads(device, count: int):
    """The same device with another number of threads."""
    key = (device.name, count)
    if key not in _DEVICES:
        _DEVICES[key] = devices.open(device.name, threads=count)
    return _DEVICES[key]


EXAMINE = (poison, inplace, accumulate, guards, pointers, sequence, threads)
