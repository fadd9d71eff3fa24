"""The gate: the one comparator by which every result in this project is judged.

`truth_of` runs an explicit function in float64 and measures how large an honest float32 error is,
element by element (rounding.py says how). `judge` holds a result against it:

1. class: NaN, +Inf and -Inf stand exactly where the truth has them;
2. element: |got - truth| <= u |truth| + SLACK * scale, and nothing absolute beside it: the only
   floor is half of the smallest denormal, and only where the truth is not an exact zero;
3. against stock: the error's RMSE, over the whole tensor, its worst row, column and 64 x 64 tile,
   is at most twice that of PyTorch's own float32 result, or what chance makes of twice;
4. bias: errors average out as round-to-nearest makes them;
5. self-test: wrong results, made from the case itself, are refused (decoys.py).

Of an output that its contract rounds at random both neighbours are honest: 2 grants u twice, 3 has
no stock to hold it to, and 4 is what chance makes of such rounding (at_random.py). Every comparison
asks "is it within?", never "is it beyond?", so that a NaN fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from checks import at_random, conceded, measuring, rounding, sampling, storage
from checks.measuring import explicit, rows, tensors_of  # noqa: F401 (the gate's other names)
from ported.contract import Contract
from ported.precision import FLOAT32, Precision, rounded

SLACK = 3.0  # c of verification.md; calibrated by `python -m checks.gate --calibrate`
STOCK = 2.0  # RMSE over stock's
ORDERLY = 1024  # terms that may be added one after another, however PyTorch does it
SMALLEST = conceded.SMALLEST  # normal number; below it nothing has a relative precision
UNITS = storage.UNITS
LARGEST = {"float32": rounding.LARGEST, "bfloat16": 3.3961775292304957e38}
TINIEST = {"float32": 2.0**-150, "bfloat16": 2.0**-134}
PICKED = 8192  # elements that the bias is taken over
# Samples from which a habit is known, plain float32 among them: of fewer, luck makes habits.
ENOUGH = measuring.SAMPLES + 1
EPSILON = 1e-300


class Finding(NamedTuple):
    """One refusal. `message`: where, what was found, what was expected. `ratio`: over the bound."""

    check: str
    output: str
    message: str
    ratio: float


@dataclass
class Habit:
    """How honest errors of one output behave together, from the samples.

    `logs`: standard deviation of the log of each figure of `_figures` from sample to sample;
    infinite where most numbers are equal, since luck then decides whether float32 rounds at all.
    `bias`: root mean square over samples, plain float32 among them, of each figure of `_biases`;
    infinite for float32 where most numbers are equal: an order of sums then errs one way for all.
    """

    logs: np.ndarray
    bias: np.ndarray


@dataclass
class Truth:
    """Truth and size of an honest error on the way, element by element, of each floating output;
    the rounding of the output itself, to its own of `dtypes`, comes on top.

    `terms`: of the longest sum behind an output (as many additions may round a `Sum`'s start).
    `parts`: what of a large case is judged; arrays here are then smaller than the outputs.
    """

    value: dict[str, np.ndarray]
    scale: dict[str, np.ndarray]
    terms: dict[str, float] = field(default_factory=dict)
    habits: dict[str, Habit] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)  # pooled sample spread over propagated
    parts: list[sampling.Part] = field(default_factory=list)
    contract: Contract | None = None
    precision: Precision = FLOAT32
    stored: bool = False  # some step may be rounded by being stored
    coarse: bool = False  # products may round, or cut off, their factors to TF32

    @property
    def dtypes(self) -> dict[str, str]:
        """Of each output; those of a truth made by hand are float32."""
        return {} if self.contract is None else {
            t.name: self.precision.dtypes[t.role] for t in self.contract.outputs}

    def at_random(self, output: str, dtype: str) -> bool:
        """Whether `output` is rounded up or down at random in this dtype."""
        return (self.contract is not None and dtype != "float32"
                and output in self.contract.at_random)

    def cut(self, output: str, array: np.ndarray) -> np.ndarray:
        """What of a whole output is judged."""
        for part in self.parts:
            if output in part.outputs and part.kept:
                axes = self.contract.by_name[output].axes
                return sampling.cut(array, axes, part.kept, part.sizes)
        return array


def truth_of(contract: Contract, inputs: Mapping, *, seed: int = 0,
             samples: int | None = None, elements: int = sampling.ELEMENTS,
             products: str | None = None, precision: Precision = FLOAT32) -> Truth:
    """Float64 truth of every floating output, and the measured scale of honest errors.

    `inputs` by argument name, as the kernel receives them. `Sum` outputs give the increment. A case
    of more than `elements` is judged at edges and random places (sampling.py). `precision` says the
    dtypes of the outputs, and what may be rounded on the way (storage.py); `products`: to what the
    kernel declares to round the factors of matrix products, in memory of float32.
    """
    truth = Truth({}, {}, parts=sampling.parts(contract, inputs, seed, elements),
                  contract=contract, precision=precision)
    kept = "bfloat16" in precision.dtypes.values()  # factors are then rounded by being stored
    unit = UNITS[products or ("float32" if kept else precision.products)]
    truth.coarse = unit == UNITS["tf32"]
    with np.errstate(all="ignore"):
        for part in truth.parts:
            found = measuring.measure(contract, part.inputs, seed, samples, unit, precision)
            for name in part.outputs:
                one = found[name]
                truth.value[name], truth.scale[name] = one.value, one.scale
                truth.terms[name], truth.shares[name] = one.terms, one.share
                truth.stored |= one.stored
                truth.habits[name] = _habit(one, UNITS[truth.dtypes[name]])
    return truth


def _ulp(value: np.ndarray, unit: float) -> np.ndarray:
    return np.ldexp(unit, np.frexp(value)[1])


def _figures(error: np.ndarray, size: np.ndarray) -> np.ndarray:
    """RMS of error over its expected size: whole, worst row, worst column, worst 64 x 64 tile."""
    with np.errstate(invalid="ignore"):
        square = rows(np.square(np.where(size > 0, error / np.maximum(size, EPSILON), 0.0)))
    if 1 in square.shape:  # a row of one element would be judged by luck
        return np.full(4, np.sqrt(max(square.mean(), EPSILON)))
    edges = [np.arange(0, n, 64) for n in square.shape]
    counts = [np.diff([*edge, n]) for edge, n in zip(edges, square.shape, strict=True)]
    tiles = np.add.reduceat(np.add.reduceat(square, edges[0], 0), edges[1], 1)
    means = [square.mean(), square.mean(1).max(), square.mean(0).max(),
             (tiles / np.outer(*counts)).max()]
    return np.sqrt(np.maximum(means, EPSILON))


def _picked(value: np.ndarray, unit: float) -> np.ndarray:
    """Flat indices of up to PICKED elements whose mantissas differ (equal ones round alike), in a
    narrow dtype by at least a sixteenth of its last place."""
    flat = value.reshape(-1)
    index = np.arange(0, flat.size, -(-flat.size // PICKED) if flat.size else 1)
    index = index[np.isfinite(flat[index]) & (np.abs(flat[index]) > 2.0**-126)]
    mantissas = np.frexp(flat[index])[0]
    if unit > UNITS["float32"]:
        mantissas = np.rint(mantissas * (16 / unit))
    return index[np.unique(mantissas, return_index=True)[1]]


def _biases(error, value, size, unit) -> tuple[np.ndarray, np.ndarray]:
    """Mean error away from zero, and upward, in ulps, each element weighed by how exact it is."""
    ulp = _ulp(value, unit)
    share = error / (ulp + size)
    weight = ulp / (ulp + size)
    return np.array([(share * np.sign(value)).mean(), share.mean()]), weight


def _habit(one: measuring.Measured, unit: float) -> Habit:
    value, scale, errors = one.value, one.scale, one.errors
    size = unit * np.abs(value) + scale
    size = np.where(np.isfinite(size), size, 0.0)
    figures = [np.log(_figures(np.nan_to_num(e, posinf=0, neginf=0), size)) for e in errors[:-1]]
    pick = _picked(value, unit)
    biases = np.zeros((1, 2))
    if pick.size:
        flat = [array.reshape(-1)[pick] for array in (value, scale, *errors)]
        biases = np.array([_biases(e, flat[0], flat[1], unit)[0] for e in flat[2:]])
    logs = np.full(4, np.inf) if one.alike else np.std(figures, 0)
    lean = np.inf if one.alike and unit == UNITS["float32"] else max(1.0, ENOUGH / len(biases))
    return Habit(logs, lean * np.sqrt((np.nan_to_num(biases) ** 2).mean(0) + EPSILON))


def judge(truth: Truth, output: str, got: np.ndarray, *, start: np.ndarray | None = None,
          stock: np.ndarray | None = None, dtype: str | None = None,
          concedes: tuple[str, ...] = ()) -> tuple[list[Finding], float]:
    """Findings (none: accepted) and the worst error over its bound.

    `start`: what stood in a `Sum` buffer before. `stock`: PyTorch's own result of the same dtype.
    `dtype`: of the output, where it is not the truth's. `concedes`: of ported.directives.
    """
    dtype = dtype or truth.dtypes.get(output, "float32")
    whole = np.asarray(got)
    got, start, stock = (None if array is None else truth.cut(output, np.asarray(array))
                         for array in (got, start, stock))
    value, scale, bound = _bound(truth, output, start, dtype)
    lost, drift = conceded.errors(truth.terms.get(output, 1.0), concedes)
    more = lost + drift * np.where(np.isfinite(scale), scale, 0.0)
    bound = np.where(bound > 0, bound + more, bound)
    if got.shape != value.shape:
        message = f"{output}: found shape {got.shape}, expected {value.shape}"
        return [Finding("class", output, message, np.inf)], np.inf
    with np.errstate(invalid="ignore", over="ignore"):
        error = got.astype(np.float64) - value
        findings = _classes(output, got, value, bound, dtype)
        if not findings and got is not whole and np.isfinite(value + bound).all():
            findings = _finite(output, whole)
        if findings:
            return findings, np.inf
        judged = np.isfinite(value) & np.isfinite(got) & np.isfinite(bound)
        error = np.where(judged, error, 0.0)
        findings, ratio = _elements(output, got, value, bound, error)
        counted = judged & (np.abs(error) > lost)  # a conceded loss is no error, but an element
        error = np.where(counted, error, 0.0)
        if truth.at_random(output, dtype):
            return findings + _luck(output, value, scale, error, judged, dtype), ratio
        if stock is not None:
            findings += _against_stock(truth, output, value, scale, error, stock, dtype, drift)
        if dtype != "float32":  # against the truth as that dtype holds it
            error = np.where(counted, got - rounded(value.astype(np.float32), dtype), 0.0)
        if not truth.coarse:  # else all factors may be cut off one way
            findings += _bias(truth, output, value, scale, error, judged, dtype, drift)
    return findings, ratio


def _bound(truth, output, start, dtype):
    value, scale = truth.value[output], truth.scale[output]
    unit = UNITS[dtype]
    moving = (scale > 0) | (value != 0)
    if start is not None:
        start = np.asarray(start, np.float64)
        value = value + start
        additions = truth.terms.get(output, 1.0)
        scale = np.where(moving, np.hypot(scale, np.sqrt(additions) * rounding.UNIT * start), 0.0)
    with np.errstate(invalid="ignore"):
        half = unit * np.abs(value) + TINIEST[dtype]
        reach = half * (1 + truth.at_random(output, dtype))
        bound = np.where(moving, reach + SLACK * scale, 0.0)
    bound[np.isinf(scale)] = np.inf
    return value, scale, bound


def _where(mask: np.ndarray, weight: np.ndarray | None = None) -> tuple[int, ...]:
    flat = np.argmax(mask if weight is None else np.where(mask, weight, -np.inf))
    return tuple(int(i) for i in np.unravel_index(flat, mask.shape))


def _classes(output, got, value, bound, dtype) -> list[Finding]:
    largest = LARGEST[dtype]
    for kind, found, expected, allowed in (
        ("NaN", np.isnan(got), np.isnan(value), np.isnan(value)),
        ("+Inf", got == np.inf, value - bound >= largest, value + bound >= largest),
        ("-Inf", got == -np.inf, value + bound <= -largest, value - bound <= -largest),
    ):
        free = np.isinf(bound)
        wrong = ~free & ((found & ~allowed) | (expected & ~found))
        if wrong.any():
            at = _where(wrong)
            message = (f"{output}{list(at)}: found {got[at]:.9g}, expected {value[at]:.9g}; {kind} "
                       f"misplaced in {wrong.sum()} of {wrong.size} elements")
            return [Finding("class", output, message, np.inf)]
    return []


def _finite(output, whole) -> list[Finding]:
    """Of a large output only a part is judged; the rest has at least to be finite."""
    wrong = ~np.isfinite(whole)
    if not wrong.any():
        return []
    at = _where(wrong)
    message = (f"{output}{list(at)}: found {whole[at]:.9g}, expected a finite number; "
               f"{wrong.sum()} of {wrong.size} elements are not")
    return [Finding("class", output, message, np.inf)]


def _elements(output, got, value, bound, error) -> tuple[list[Finding], float]:
    size = np.abs(error)
    within = (size <= bound) | ~np.isfinite(bound)
    ratio = np.where(size == 0, 0.0, size / np.maximum(bound, EPSILON))
    worst = float(ratio.max(initial=0.0))
    if within.all():
        return [], worst
    at = _where(~within, ratio)
    message = (f"{output}{list(at)}: found {got[at]:.9g}, expected {value[at]:.9g} within "
               f"{bound[at]:.3g}, {ratio[at]:.3g} times that; {(~within).sum()} of {within.size} "
               "elements beyond their bound")
    return [Finding("element", output, message, worst)], worst


def _against_stock(truth, output, value, scale, error, stock, dtype, drift) -> list[Finding]:
    unit = UNITS[dtype]
    size = unit * np.abs(value) + scale
    size = np.where(np.isfinite(size) & (np.abs(value) > SMALLEST), size, 0.0)
    ours = _figures(error, size)
    stock_error = np.nan_to_num(stock.astype(np.float64) - value, posinf=0, neginf=0)
    theirs = _figures(stock_error, size)
    floor = _figures(unit * np.abs(np.nan_to_num(value, posinf=0, neginf=0)), size)
    logs = truth.habits[output].logs if output in truth.habits else np.ones(4)
    allowed = STOCK * np.maximum(theirs, floor) * np.exp(9 * logs)
    orderly = truth.coarse or truth.terms.get(output, 1) <= ORDERLY
    allowed = np.maximum(allowed, max(drift, float(orderly)))
    for what, a, b in zip(("whole tensor", "worst row", "worst column", "worst 64 x 64 tile"),
                          ours, allowed, strict=True):
        if not a <= b:
            message = (f"{output}, {what}: found an RMS error of {a:.3g} of its expected size, "
                       f"expected at most {b:.3g} (twice stock PyTorch's, or half an ulp)")
            return [Finding("stock", output, message, float(a / b))]
    return []


def _bias(truth, output, value, scale, error, judged, dtype, drift) -> list[Finding]:
    pick = _picked(np.where(judged, value, 0.0), UNITS[dtype])
    if pick.size < 64:
        return []
    value, scale, error = (array.reshape(-1)[pick] for array in (value, scale, error))
    means, weight = _biases(error, value, scale, UNITS[dtype])
    habit = truth.habits[output].bias if output in truth.habits else np.zeros(2)
    chance = np.sqrt((weight**2).sum() / 12) / pick.size
    if dtype != "float32":  # only where it rounds otherwise than the truth does, near a tie
        flips = (weight**2 * np.minimum(2 * scale / _ulp(value, UNITS[dtype]), 1)).sum()
        chance = np.sqrt(1 + flips) / pick.size
    habit = habit * (UNITS[truth.dtypes.get(output, "float32")] / UNITS[dtype])
    lean = conceded.lean(drift, weight) if dtype == "float32" else 0.0
    allowed = 6 * (chance + habit) + 0.1 * (1 - weight.mean()) + np.array([lean, 0.0])
    for what, mean, limit in zip(("away from zero", "upward"), means, allowed, strict=True):
        if not abs(mean) <= limit:
            message = (f"{output}: found errors of {mean:.3g} ulp on average {what}, expected at "
                       f"most {limit:.2g} as rounding to nearest gives, over {pick.size} elements")
            return [Finding("bias", output, message, float(abs(mean) / limit))]
    return []


def _luck(output, value, scale, error, judged, dtype) -> list[Finding]:
    pick = judged & (np.abs(value) > SMALLEST)
    value, scale, error = (array[pick] for array in (value, scale, error))
    for what, mean, limit in at_random.biases(value, scale, error, _ulp(value, UNITS[dtype])):
        if not abs(mean) <= limit:
            message = (f"{output}: found errors of {mean:.3g} ulp on average {what}, expected at "
                       f"most {limit:.2g} as rounding at random gives, over {value.size} elements")
            return [Finding("bias", output, message, float(abs(mean) / limit))]
    return []


if __name__ == "__main__":
    from checks import honest
    honest.main()
