"""Numbers far from the usual ones: constants and scalars over decades, NaN beside extremes.

`scalars`: each constant of a contract and each scalar that a launch reads, far below and above its
default; constants near one (AdamW's betas) meet step counts up to a million, since a bias
correction is a power of both. `extremes`: NaN and infinity planted where another input is largest,
smallest or nearest to zero, in rows that saturate: a shortcut for units that are dead, or for
probabilities that vanish, must not lose them. `largest`: rows near the end of float32, where what
lies behind a row, taken along with a weight of zero, is zero times infinity. `smallest`: rows
whose squares are near the other end, which are small but not nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from checks import gate, reach
from checks.cases import DOMAINS
from checks.shapes import HOME, Shapes, families_of
from checks.trial import Subject, Trial
from ported import precision as precisions

DECADES = (1e-8, 1e-4, 1e-3, 1e-2, 0.1, 10.0, 1e3)  # factors on a constant
NEARER = (1.0, 0.1, 0.02, 0.01)  # on the distance from one: 0.95 becomes 0.9995
# Of the optimizer: the last four have more bits than a counter of 16, 20, 24 or 30 holds.
STEPS = (1, 30, 1000, 1500, 10_000, 1_000_000, 65_537, (1 << 20) + 1, (1 << 24) + 1, 2**31 - 1)
SCALES = (1e-4, 1e-2, 30.0)  # factors on a scalar
FAR = (2.0**-60, 2.0**46)  # on gradients and parameters, exactly: squares are still numbers
SIZES = ("unit", "tiny", "huge")  # families: beside small numbers small constants count
BOUNDED = {"scale": 1.0}  # what no scalar exceeds: clipping only shortens
SMALL = 66  # of every axis: more such numbers have no sum in float32
EXTREME = ("large", "negative", "huge", "outlier")  # families whose rows saturate


def _moved(trial: Trial) -> Iterator[tuple[str, dict]]:
    """What is changed, in words, and the inputs changed so."""
    inputs, contract = trial.inputs, trial.contract
    near = {name: value for name, value in contract.consts.items() if 0.5 < value < 1}
    for name, value in contract.consts.items():
        for factor in () if name in near else DECADES:
            yield f"{name} = {value * factor:g}", {**inputs, name: value * factor}
    steps = [t for t in contract.inputs if t.name == "t" and t.role == "I32"]
    for factor in NEARER if near else ():
        closer = {name: 1 - (1 - value) * factor for name, value in near.items()}
        for step in STEPS if steps else (None,):
            more = {"t": np.full_like(inputs["t"], step)} if steps else {}
            said = ", ".join(f"{name} = {value:.9g}" for name, value in closer.items())
            yield f"{said}, t = {step}" if steps else said, {**inputs, **closer, **more}
    for name in near:
        yield f"{name} = 0", {**inputs, name: 0.0}
    for tensor in contract.inputs:
        if tensor.name in DOMAINS and tensor.dyn and tensor.role != "I32":
            for factor in SCALES:
                value = np.minimum(inputs[tensor.name] * np.float32(factor),
                                   np.float32(BOUNDED.get(tensor.name, np.inf)))
                yield f"{tensor.name} times {factor:g}", {**inputs, tensor.name: value}
    for tensor in contract.inputs if trial.case.family == "unit" else ():
        if tensor.role in ("P", "G") or tensor.name.startswith("d") and tensor.role != "I32":
            for factor in () if tensor.dyn else FAR:
                value = inputs[tensor.name] * np.float32(factor)
                yield f"{tensor.name} times {factor:g}", {**inputs, tensor.name: value}


def scalars(subject: Subject, shapes: Shapes, seed: int) -> None:
    """Every constant and scalar over decades, held against float64 by the gate."""
    for trial in _trials(subject, shapes, seed, SIZES):
        for what, inputs in _moved(trial):
            truth = gate.truth_of(trial.contract, inputs, seed=trial.case.seed,
                                  precision=precisions.of(trial.case.precision))
            trial.judge(trial.run(inputs), ["scalars"], f"{what}: ", truth=truth, stock=False)
    if not subject.ledger.examples["scalars"]:
        subject.ledger.not_run["scalars: the operation has none"] += 1


def extremes(subject: Subject, shapes: Shapes, seed: int) -> None:
    """NaN and infinity in one input, where another is extreme."""
    families = [f for f in EXTREME if f in families_of(subject.contract.name)]
    for trial in _trials(subject, shapes, seed, families):
        first = trial.run()
        for name, at in _beside(trial.inputs):
            reach.planted(trial, first, name, at, "extremes")
    if not subject.ledger.examples["extremes"]:
        subject.ledger.not_run["extremes: no two inputs of one shape"] += 1


def largest(subject: Subject, shapes: Shapes, seed: int) -> None:
    """Constant rows of 1e36 to 1e38, of both signs, held against float64 by the gate."""
    _rare(subject, shapes, seed, "largest")


def smallest(subject: Subject, shapes: Shapes, seed: int) -> None:
    """Rows of 1e-18 to 1e-15, whose squares are near the least of float32, by the gate."""
    _rare(subject, shapes, seed, "smallest")


def _rare(subject: Subject, shapes: Shapes, seed: int, name: str) -> None:
    """A family that is the check's own, at every small shape."""
    for number, sizes in enumerate(shapes.spine().values()):
        case = shapes._case(sizes, seed + number, name)
        if max(sizes.values()) <= SMALL and subject.applies(sizes) and subject.affords(sizes):
            trial = Trial(subject, case)
            if trial.known.judgeable:
                trial.judge(trial.run(), [name], stock=False)
    if not subject.ledger.examples[name]:
        subject.ledger.not_run[f"{name}: no small shape has a finite truth"] += 1


def _trials(subject: Subject, shapes: Shapes, seed: int, families) -> Iterator[Trial]:
    """Small cases of these families to which the configuration applies."""
    spine = shapes.spine()
    sizes = spine.get(HOME) or next(iter(spine.values()))
    case = shapes._case(sizes, 3 * seed, "unit")  # a seed divisible by 3 keeps the defaults
    for family in families if subject.applies(sizes) and subject.affords(sizes) else ():
        trial = Trial(subject, replace(case, family=family))
        if trial.known.judgeable:
            yield trial


def _beside(inputs: Mapping) -> Iterator[tuple[str, tuple]]:
    """An input, and a place where another one of its shape is largest, smallest, nearest zero."""
    names = reach.floats(inputs)
    for name in names:
        for other in names:
            if other == name or inputs[other].shape != inputs[name].shape:
                continue
            array = inputs[other]
            for place in {int(array.argmax()), int(array.argmin()), int(np.abs(array).argmin())}:
                yield name, tuple(int(i) for i in np.unravel_index(place, array.shape))


__all__ = ["extremes", "largest", "scalars", "smallest"]
