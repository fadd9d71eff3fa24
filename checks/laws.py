"""What must hold of an operation whatever its values: laws, exactness, and inputs worth trying.

No operation is known by name. Rows are independent along the batch axis of the contract; which
outputs scale with which inputs, and which elements depend on which, is asked of the explicit
function in float64, and the kernel has to answer alike.
"""

from collections.abc import Mapping
from functools import cache

import numpy as np

from checks import cases, gate, known
from checks.cases import Case
from checks.launch import Result
from checks.trial import Trial
from ported import contract as contracts
from ported.contract import Contract, Tensor

BATCH = ("N", "B", "S")  # the axis along which rows do not know of each other
TIME = "T"  # what comes later has no influence
STEP = 1e-5  # of a central difference
DEPENDS = 1e-9  # of the largest element: what moves by more depends on what was moved
DEGREES = (0, 1, 2)


def _floats(inputs: Mapping) -> list[str]:
    return [name for name, value in inputs.items()
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"]


def _taken(tensor: Tensor, array: np.ndarray, axis: str, index: np.ndarray) -> np.ndarray:
    return array.take(index, tensor.axes.index(axis)) if axis in tensor.axes else array


_CUT: dict[tuple, gate.Truth] = {}


def _truth_of(trial: Trial, inputs: Mapping, index: np.ndarray) -> gate.Truth:
    """Truth of the rows `index` of a case, computed once for all versions."""
    key = (trial.case, index.tobytes())
    if key not in _CUT:
        _CUT[key] = gate.truth_of(trial.contract, inputs, seed=trial.case.seed)
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
    for name in _floats(trial.inputs):
        degrees = _degrees(trial, name)
        if not degrees:
            continue
        found = trial.run({**trial.inputs, name: 2 * trial.inputs[name]})
        trial.ledger.ran("laws")
        for output, degree in degrees.items():
            expected = first.outputs[output] * np.float32(2.0**degree)
            trial.equal("laws", output, found.outputs[output], expected,
                        f"twice {name} must give {2**degree} times {output}")


_REACH: dict[tuple[Case, str], tuple] = {}


def _reach(trial: Trial, name: str) -> tuple[tuple, dict, dict]:
    """A random element of `name`; per output, which elements must turn NaN with it and which must
    not change at all. Between them lies what float64's own rounding leaves undecided. Asked at
    numbers of size one, where no exponential underflows and hides what depends on what."""
    key = (trial.case, name)
    if key not in _REACH:
        random = np.random.default_rng([trial.case.seed, len(name)])
        inputs = {**trial.inputs, **{n: _of_size_one(trial.inputs[n])
                                     for n in _floats(trial.inputs)}}
        array, value = inputs[name], cases.explicit(trial.contract, inputs)
        at = tuple(int(random.integers(n)) for n in array.shape)

        def outputs(value: float) -> dict[str, np.ndarray]:
            changed = array.astype(np.float64)
            changed[at] = value
            return cases.explicit(trial.contract, {**inputs, name: changed})

        x = float(array[at])
        near, far, gone = outputs(x + 0.5), outputs(1000 * x + 1), outputs(np.nan)
        must, spared = {}, {}
        for tensor in trial.contract.outputs:
            o = tensor.name
            moved = np.maximum(np.abs(near[o] - value[o]), np.abs(far[o] - value[o]))
            must[o] = np.isnan(gone[o]) & (moved > DEPENDS * np.abs(value[o]).max(initial=0))
            elsewhere = _other_times(tensor, trial.contract.by_name[name], at, value[o].shape)
            spared[o] = (near[o] == value[o]) & (far[o] == value[o]) & (
                ~np.isnan(gone[o]) | elsewhere)
        _REACH[key] = at, must, spared
    return _REACH[key]


def _of_size_one(array: np.ndarray) -> np.ndarray:
    size = np.sqrt(np.mean(np.square(array, dtype=np.float64)))
    return array / (2 * size) if size else array


def _other_times(output: Tensor, planted: Tensor, at: tuple, shape: tuple) -> np.ndarray:
    """Elements at another position in time than `at`, where 0 * NaN in float64 excuses nothing."""
    if TIME not in output.axes or TIME not in planted.axes:
        return np.zeros(shape, bool)
    times = np.arange(shape[output.axes.index(TIME)]) != at[planted.axes.index(TIME)]
    places = [-1 if axis == TIME else 1 for axis in output.axes]
    return np.broadcast_to(times.reshape(places), shape)


def spread(trial: Trial, first: Result) -> None:
    """One NaN reaches what depends on its place and nothing else: the future not the past."""
    for name in _floats(trial.inputs):
        at, must, spared = _reach(trial, name)
        poisoned = trial.inputs[name].copy()
        poisoned[at] = np.nan
        found = trial.run({**trial.inputs, name: poisoned})
        trial.ledger.ran("laws")
        for output, got in found.outputs.items():
            wrong = (must[output] & ~np.isnan(got)) | (spared[output] & np.isnan(got))
            if trial.subject.claims("deterministic"):
                wrong |= spared[output] & (got != first.outputs[output])
            if wrong.any():
                place = tuple(int(i) for i in np.argwhere(wrong)[0])
                expected = ("NaN" if must[output][place] else
                            f"{first.outputs[output][place]:.9g} as before")
                trial.refuse("laws", output, f"{output}{list(place)}: with {name}{list(at)} = NaN: "
                             f"found {got[place]:.9g}, expected {expected}; {wrong.sum()} elements")


def adjoint(trial: Trial, first: Result) -> None:
    """<J v, u> = <v, J' u>: the explicit forward's derivative against the kernel's backward."""
    drawn, contract = trial.known.drawn, trial.contract
    if drawn.forward is None:
        trial.ledger.not_run["laws: <Jv, u> = <v, J'u>: not a backward"] += 1
        return
    forward = contracts.of(f"{contract.operation}_forward")
    random = np.random.default_rng(trial.case.seed)
    found = {n[1:]: v for n, v in first.outputs.items() if n[1:] in _floats(drawn.forward)}
    steps = {n: random.standard_normal(v.shape) for n, v in found.items()}

    def moved(size: float) -> dict[str, np.ndarray]:
        return cases.explicit(forward, {**drawn.forward, **{
            n: drawn.forward[n] + size * step for n, step in steps.items()}})

    ahead, behind = moved(STEP), moved(-STEP)
    gradients = cases.gradients_of(contract, drawn)
    left = sum(float(((ahead[n[1:]] - behind[n[1:]]) / (2 * STEP) * u).sum())
               for n, u in gradients.items())
    right = sum(float((steps[n] * value.astype(np.float64)).sum()) for n, value in found.items())
    scale = trial.known.truth.scale
    room = sum(float((np.abs(steps[n]) * (3 * scale[f"d{n}"] + 2e-5 * np.abs(value))).sum())
               for n, value in found.items())
    ratio = abs(left - right) / max(room, 1e-300)
    trial.ledger.ran("laws", ratio)
    if not ratio <= 1:
        trial.refuse("laws", ", ".join(f"d{n}" for n in found), "<v, J'u> by the kernel: found "
                     f"{right:.9g}, expected <Jv, u> = {left:.9g} within {room:.3g}", ratio)


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
    starts = trial.known.starts(trial.contract)
    for before, result in (({}, first), (starts, trial.run(starts=starts) if starts else None)):
        for name in _whole_outputs(trial.contract.name) & set(before or first.outputs):
            if result is None:
                continue
            value = trial.known.truth.value[name] + before.get(name, 0)
            trial.ledger.ran("exact")
            wrong = result.outputs[name] != value
            if wrong.any():
                at = tuple(int(i) for i in np.argwhere(wrong)[0])
                trial.refuse("exact", name, f"{name}{list(at)}: whole numbers: found "
                             f"{result.outputs[name][at]:.9g}, expected {value[at]:.9g} exactly; "
                             f"{wrong.sum()} of {wrong.size} elements")


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
            _SELF_TESTS[case] = gate.self_test(contract, given.inputs, given.truth, seed=case.seed)
    return _SELF_TESTS[case]


LAWS = (rows, scaling, spread, adjoint, three_ways)
