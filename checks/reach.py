"""What depends on what: one NaN, and one infinity, planted in every input.

Which elements depend on an element of an input is asked of the explicit function in float64, by
moving that element. The kernel's NaN must reach all of them and nothing else, bit for bit: so the
future does not reach the past, a row not its neighbour, a padding column nothing at all. Of a
version that concedes NaN, the second half is asked with a number in the NaN's place.
"""

from collections.abc import Mapping

import numpy as np

from checks import cases
from checks.cases import Case
from checks.launch import Result
from checks.trial import Trial
from ported.contract import Tensor

TIME = "T"  # what comes later has no influence
DEPENDS = 1e-9  # of the largest element: what moves by more depends on what was moved


def floats(inputs: Mapping) -> list[str]:
    """The inputs that are floating tensors."""
    return [name for name, value in inputs.items()
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"]


_REACH: dict[tuple, tuple[dict, dict, dict]] = {}


def reach(trial: Trial, name: str, at: tuple) -> tuple[dict, dict, dict]:
    """Per output: what turns NaN with element `at` of the input `name`, what does not change at
    all, and what turns infinite with +Inf. What float64's own rounding leaves undecided is in none
    of them. Asked at numbers of size one, where no exponential underflows and hides a dependence.
    """
    key: tuple[Case, str, tuple] = (trial.case, name, at)
    if key in _REACH:
        return _REACH[key]
    inputs = {**trial.inputs, **{n: _of_size_one(trial.inputs[n]) for n in floats(trial.inputs)}}
    array, value = inputs[name], cases.explicit(trial.contract, inputs)

    def outputs(number: float) -> dict[str, np.ndarray]:
        changed = array.astype(np.float64)
        changed[at] = number
        return cases.explicit(trial.contract, {**inputs, name: changed})

    x = float(array[at])
    near, far, gone, endless = (outputs(n) for n in (x + 0.5, 1000 * x + 1, np.nan, np.inf))
    must, spared, infinite = {}, {}, {}
    for tensor in trial.contract.outputs:
        o = tensor.name
        moved = np.maximum(np.abs(near[o] - value[o]), np.abs(far[o] - value[o]))
        depends = moved > DEPENDS * np.abs(value[o]).max(initial=0)
        elsewhere = _other_times(tensor, trial.contract.by_name[name], at, value[o].shape)
        must[o], infinite[o] = np.isnan(gone[o]) & depends, np.isinf(endless[o]) & depends
        spared[o] = (near[o] == value[o]) & (far[o] == value[o]) & (~np.isnan(gone[o]) | elsewhere)
    _REACH[key] = must, spared, infinite
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
    """NaN and +Inf in a random element and in the last one (a padding column, the last row)."""
    random = np.random.default_rng(trial.case.seed)
    for name in floats(trial.inputs):
        shape = trial.inputs[name].shape
        for at in (tuple(int(random.integers(n)) for n in shape), tuple(n - 1 for n in shape)):
            planted(trial, first, name, at)


def planted(trial: Trial, first: Result, name: str, at: tuple, check: str = "laws") -> None:
    """NaN and +Inf in one element of one input: what must become NaN or infinite, and what not."""
    must, spared, infinite = reach(trial, name, at)
    found = _planted(trial, name, at, np.nan, check)
    for output, got in found.outputs.items():
        wrong = must[output] & ~np.isnan(got)
        _refuse(trial, check, first, wrong, got, f"{name}{list(at)} = NaN", output,
                np.full(got.shape, "NaN"))
    number = np.nan
    if "nan" in trial.subject.version.concedes:
        number = float(trial.inputs[name][at]) * 2 + 1
        found = _planted(trial, name, at, number, check)
    for output, got in found.outputs.items():
        wrong = spared[output] & np.isnan(got)
        if trial.subject.claims("deterministic"):
            wrong |= spared[output] & (got != first.outputs[output])
        _refuse(trial, check, first, wrong, got, f"{name}{list(at)} = {number:g}", output,
                np.full(got.shape, "what it was"))
    if "nan" in trial.subject.version.concedes:
        return
    found = _planted(trial, name, at, np.inf, check)
    for output, got in found.outputs.items():
        _refuse(trial, check, first, infinite[output] & np.isfinite(got), got,
                f"{name}{list(at)} = Inf", output, np.full(got.shape, "Inf"))


def _planted(trial: Trial, name: str, at: tuple, number: float, check: str) -> Result:
    array = trial.inputs[name].copy()
    array[at] = number
    trial.ledger.ran(check)
    return trial.run({**trial.inputs, name: array})


def _refuse(trial: Trial, check: str, first: Result, wrong, got, what: str, output: str,
            expected: np.ndarray) -> None:
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        trial.refuse(check, output, f"{output}{list(at)}: with {what}: found {got[at]:.9g}, "
                     f"expected {expected[at]} (it was {first.outputs[output][at]:.9g}); "
                     f"{wrong.sum()} elements")
