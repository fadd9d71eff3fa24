"""What must hold of an operation whatever its values: laws, exactness, and inputs worth trying.

No operation is known by name. Rows are independent along the batch axis of the contract; which
outputs scale with which inputs is asked of the explicit function in float64, and the kernel has to
answer alike (so does reach.py with what depends on what).
"""

from collections.abc import Mapping
from functools import cache

import numpy as np

from checks import cases, decoys, gate, known, reach
from checks.cases import Case
from checks.launch import Result
from checks.reach import floats
from checks.shapes import HOME, Shapes
from checks.trial import Fault, Subject, Trial
from ported import contract as contracts
from ported import precision as precisions
from ported.contract import Contract, Tensor

BATCH = ("N", "B", "S")  # the axis along which rows do not know of each other
STEP = 1e-5  # of a central difference
DEGREES = (0, 1, 2)
SELF_TESTS = 5  # cases within which every decoy must have been rejected


def _taken(tensor: Tensor, array: np.ndarray, axis: str, index: np.ndarray) -> np.ndarray:
    return array.take(index, tensor.axes.index(axis)) if axis in tensor.axes else array


_CUT: dict[tuple, gate.Truth] = {}


def _truth_of(trial: Trial, inputs: Mapping, index: np.ndarray) -> gate.Truth:
    """Truth of the rows `index` of a case, computed once for all versions."""
    key = (trial.case, index.tobytes())
    if key not in _CUT:
        _CUT[key] = gate.truth_of(trial.contract, inputs, seed=trial.case.seed,
                                  precision=precisions.of(trial.case.precision))
    return _CUT[key]


def rows(trial: Trial, first: Result) -> None:
    """Permuted and cut along the batch: a row's result moves with it, bitwise if so claimed."""
    axis = next((a for a in BATCH if a in trial.contract.axes), None)
    count = trial.case.sizes.get(axis, 1)
    if count < 2:
        trial.ledger.not_run["laws: rows permuted and cut: one row, or no batch axis"] += 1
        return
    random = np.random.default_rng(trial.case.seed)
    order = random.permutation(count)
    cuts = [order, np.arange(1), np.arange(count // 2, count), order[:max(1, 2 * count // 3)]]
    for index in cuts:
        sizes = {**trial.case.sizes, axis: len(index)}
        if not trial.subject.applies(sizes):
            trial.ledger.not_run["laws: rows cut where the version does not apply"] += 1
            continue
        _row_law(trial, first, axis, index, sizes)


def _row_law(trial: Trial, first: Result, axis: str, index: np.ndarray, sizes: dict) -> None:
    inputs = {name: (_taken(trial.contract.by_name[name], value, axis, index)
                     if isinstance(value, np.ndarray) else value)
              for name, value in trial.inputs.items()}
    inputs |= {name: sizes[name] for name in trial.contract.axis_arguments}
    found = trial.run(inputs, stage=trial.subject.stage(sizes))
    whole = len(index) == trial.case.sizes[axis]
    what = f"rows of {axis} " + ("permuted" if whole else f"{index[:4].tolist()}... alone")
    for tensor in trial.contract.outputs:
        name, got = tensor.name, found.outputs[tensor.name]
        if axis not in tensor.axes and not whole:
            continue  # a sum over other rows: another case, judged as such
        if axis in tensor.axes and trial.subject.claims("batch_invariant"):
            trial.ledger.ran("claims")
            trial.equal("claims", name, got, _taken(tensor, first.outputs[name], axis, index),
                        f"batch_invariant: {what}")
        else:
            trial.judge(Result({name: got}), ["laws"], what + ": ", stock=False,
                        truth=_truth_of(trial, inputs, index))
    trial.ledger.ran("laws")


_SCALES: dict[tuple[Case, str], dict[str, int]] = {}


def _degrees(trial: Trial, name: str) -> dict[str, int]:
    """Outputs that doubling the input `name` multiplies by a power of two, in float64."""
    key = (trial.case, name)
    if key not in _SCALES:
        doubled = cases.explicit(trial.contract,
                                 {**trial.inputs, name: 2 * trial.inputs[name]})
        value = trial.known.truth.value
        _SCALES[key] = {
            output: degree for degree in DEGREES for output, found in doubled.items()
            if value[output].any() and np.allclose(found, 2.0**degree * value[output], 1e-13, 0)}
    return _SCALES[key]


def scaling(trial: Trial, first: Result) -> None:
    """Twice the gradient gives twice the result, bit for bit; so for every homogeneous input."""
    if not trial.subject.claims("deterministic"):
        trial.ledger.not_run["laws: scaling bit for bit: not claimed deterministic"] += 1
        return
    for name in floats(trial.inputs):
        degrees = _degrees(trial, name)
        if not degrees:
            continue
        found = trial.run({**trial.inputs, name: 2 * trial.inputs[name]})
        trial.ledger.ran("laws")
        for output, degree in degrees.items():
            expected = first.outputs[output] * np.float32(2.0**degree)
            trial.equal("laws", output, _but_for_faint(trial, output, first, found, degree),
                        expected, f"twice {name} must give {2**degree} times {output}")


def _but_for_faint(trial: Trial, output: str, first: Result, found: Result,
                   degree: int) -> np.ndarray:
    """`found`, with 2^degree of `first` where that lies below the normal numbers, was rounded
    there to fewer bits, and is as near as such rounding leaves it."""
    before, got = first.outputs[output], found.outputs[output]
    expected = before * np.float32(2.0**degree)
    bfloat16 = trial.known.truth.dtypes[output] == "bfloat16"
    step = gate.SMALLEST * 2.0**-(7 if bfloat16 else 23)
    with np.errstate(invalid="ignore"):
        near = np.abs(got.astype(np.float64) - expected) <= 2.0**degree * step
    return np.where((np.abs(before) < gate.SMALLEST) & near, expected, got)


def adjoint(trial: Trial, first: Result) -> None:
    """<J v, u> = <v, J' u>: the explicit forward's derivative against the kernel's backward."""
    drawn, contract = trial.known.drawn, trial.contract
    if drawn.forward is None:
        trial.ledger.not_run["laws: <Jv, u> = <v, J'u>: not a backward"] += 1
        return
    forward = contracts.of(f"{contract.operation}_forward")
    random = np.random.default_rng(trial.case.seed)
    found = {n[1:]: v for n, v in first.outputs.items() if n[1:] in floats(drawn.forward)}
    steps = {n: random.standard_normal(v.shape) for n, v in found.items()}

    def moved(size: float) -> dict[str, np.ndarray]:
        return cases.explicit(forward, {**drawn.forward, **{
            n: drawn.forward[n] + size * step for n, step in steps.items()}})

    ahead, behind = moved(STEP), moved(-STEP)
    gradients = cases.gradients_of(contract, drawn)
    left = sum(float(((ahead[n[1:]] - behind[n[1:]]) / (2 * STEP) * u).sum())
               for n, u in gradients.items())
    right = sum(float((steps[n] * value.astype(np.float64)).sum()) for n, value in found.items())
    scale, near = trial.known.truth.scale, 2e-5
    if trial.case.precision == "bfloat16":  # what was saved is rounded, and the result again
        near = gate.UNITS["bfloat16"]
        right -= _of_rounding(trial, steps)
    room = sum(float((np.abs(steps[n]) * (3 * scale[f"d{n}"] + near * np.abs(value))).sum())
               for n, value in found.items())
    ratio = abs(left - right) / max(room, 1e-300)
    trial.ledger.ran("laws", ratio)
    if not ratio <= 1:
        trial.refuse("laws", ", ".join(f"d{n}" for n in found), "<v, J'u> by the kernel: found "
                     f"{right:.9g}, expected <Jv, u> = {left:.9g} within {room:.3g}", ratio)


def _of_rounding(trial: Trial, steps: Mapping) -> float:
    """How far the backward's truth moves, along `steps`, with the rounding of what was saved."""
    exact = cases.explicit(trial.contract, known.unrounded(trial.known.drawn, trial.contract))
    return sum(float((step * (trial.known.truth.value[f"d{n}"] - exact[f"d{n}"])).sum())
               for n, step in steps.items())


@cache
def _whole_outputs(name: str) -> frozenset[str]:
    """Outputs that are whole numbers where all inputs are: sums and products, nothing else."""
    contract = contracts.of(name)
    whole = {t.name for t in contract.outputs}
    for sizes in ({"V": 6, "Vp": 9, "Tmax": 8}, {"V": 11, "Vp": 13, "Tmax": 9}):
        axes = tuple((a, sizes.get(a, 3 + i)) for i, a in enumerate(cases.axes_of(contract)))
        drawn = cases.draw(Case(name, axes, 5, "integer"), contract)
        for output, value in cases.explicit(contract, drawn.inputs).items():
            if not np.array_equal(value, np.rint(value)) or np.unique(value).size < 2:
                whole.discard(output)
    return frozenset(whole)


def exact(trial: Trial, first: Result) -> None:
    """Whole numbers whose sums float32 holds: the truth itself, with no rounding to excuse."""
    if trial.case.family != "integer":
        return
    if not _whole_outputs(trial.contract.name):
        trial.ledger.not_run["exact: no output is made of sums and products alone"] += 1
    starts = trial.known.starts(trial.contract)
    for before, result in (({}, first), (starts, trial.run(starts=starts) if starts else None)):
        for name in _whole_outputs(trial.contract.name) & set(before or first.outputs):
            if result is None:
                continue
            truth = trial.known.truth
            got = truth.cut(name, result.outputs[name])
            value = truth.value[name] + (truth.cut(name, before[name]) if before else 0)
            value = cases.stored(trial.case, trial.contract.by_name[name], value)
            trial.ledger.ran("exact")
            wrong = got != value
            if wrong.any():
                at = tuple(int(i) for i in np.argwhere(wrong)[0])
                trial.refuse("exact", name, f"{name}{list(at)}: whole numbers: found "
                             f"{got[at]:.9g}, expected {value[at]:.9g} exactly; {wrong.sum()} of "
                             f"{wrong.size} elements")


def trivial(trial: Trial) -> set[str]:
    """Inputs that this case would let a kernel ignore: all alike, all zero or all one."""
    trial.ledger.ran("nothing_trivial")
    return {tensor.name for tensor in trial.contract.inputs
            if (value := trial.inputs[tensor.name]).size > 1 and np.unique(value).size < 2
            or np.isin(value, (0, 1)).all() and np.unique(value).size < 2}


def three_ways(trial: Trial, first: Result) -> None:
    """Explicit and stock agree in float64; the gate holds the kernel to both."""
    trial.ledger.ran("three_ways")
    for name, message, ratio in known.disagreements(trial.case, trial.contract):
        trial.refuse("three_ways", name, message, ratio)


_SELF_TESTS: dict[tuple, dict[str, str]] = {}


def self_test(contract: Contract, case: Case) -> dict[str, str]:
    """Verdict on each decoy of one case: rejected, vacuous or ACCEPTED."""
    if case not in _SELF_TESTS:
        given = known.of(case, contract)
        with np.errstate(all="ignore"):
            _SELF_TESTS[case] = decoys.self_test(contract, given.inputs, given.truth,
                                                 seed=case.seed)
    return _SELF_TESTS[case]


def self_tests(subject: Subject, shapes: Shapes, seed: int) -> None:
    """Every decoy must be rejected somewhere, and accepted nowhere."""
    spine, verdicts = shapes.spine(), {}
    places = [spine[n] for n in (HOME, "tile", "over", "under") if n in spine] or [*spine.values()]
    for number in range(SELF_TESTS):
        family = ("unit", "unit", "tiny", "outlier", "sorted")[number % 5]
        case = shapes._case(places[number % len(places)], seed + number, family)
        subject.say(f"self_test {case}")
        subject.phase = "self_test"
        found = self_test(subject.contract, case)
        subject.ledger.ran("self_test")
        for decoy, verdict in found.items():
            verdicts.setdefault(decoy, set()).add(verdict)
            if verdict == "ACCEPTED":
                subject.ledger.refuse(Fault("self_test", "", "the gate accepts the decoy "
                                            f"'{decoy}'", float("inf"), str(case)))
        if number and all("rejected" in seen for seen in verdicts.values()):
            break
    subject.phase = "launch"
    never = sorted(d for d, seen in verdicts.items() if seen == {"vacuous"})
    if never:
        subject.ledger.not_run[f"self_test: vacuous in every case: {', '.join(never)}"] += 1
    if not any("rejected" in seen for seen in verdicts.values()):
        subject.ledger.refuse(Fault("self_test", "", "no decoy was rejected", float("inf"), ""))


LAWS = (rows, scaling, reach.spread, adjoint, three_ways)
