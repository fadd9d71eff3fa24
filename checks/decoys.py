"""Wrong results made from a case itself, which the gate must refuse (its self-test).

A decoy that float32 cannot tell from the truth (T = 1, equal rows, an input that is already zero)
is vacuous. The yardstick for that is not the gate's own scale but the explicit function in plain
float32: a gate whose bounds had grown too wide would show itself by accepting what is not vacuous.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from checks import gate, measuring, storage
from checks.sampling import Part
from ported.contract import Contract
from ported.precision import rounded

BLIND = 64.0  # a decoy is vacuous within so many times plain float32's own error
ROUNDED = 16.0  # and so many times that of rounding on the way
NEAR = {"float32": 2.0**-22, "bfloat16": 2.0**-7}  # and so much of the truth


def self_test(contract: Contract, inputs: Mapping, truth: gate.Truth, *, seed: int
              ) -> dict[str, str]:
    """Decoy -> "rejected", "vacuous" (nothing to tell apart) or "ACCEPTED" (the gate is blind)."""
    random = np.random.default_rng(seed)
    verdicts: dict[str, str] = {}
    judged = replace(truth, parts=[])  # decoys are made of the part that is judged
    for part in truth.parts or [Part(tuple(truth.value), dict(inputs), {})]:
        noise = _honest_error(contract, part.inputs, truth, part.outputs)
        for name in part.outputs:
            percent = 10 if truth.stored or truth.coarse else 1  # what rounding on the way hides
            for decoy, wrong in _simple(part.inputs, truth.value[name], random, percent):
                _note(verdicts, decoy, _verdict(judged, name, wrong, noise[name]))
        for decoy, outputs in _ignorant(contract, part.inputs, random):
            for name in part.outputs:
                _note(verdicts, decoy, _verdict(judged, name, outputs[name], noise[name]))
    return verdicts


def _note(verdicts: dict[str, str], decoy: str, verdict: str) -> None:
    order = ("vacuous", "rejected", "ACCEPTED")
    verdicts[decoy] = max(verdicts.get(decoy, "vacuous"), verdict, key=order.index)


def _honest_error(contract, inputs, truth, outputs) -> dict[str, np.ndarray]:
    """What is too near to tell apart: BLIND times plain float32's own error, and ROUNDED times
    that of storing rounded on the way, in a precision that allows it."""
    exact = measuring.tensors_of(contract, inputs)
    arguments = measuring.single(exact)
    runs = [(BLIND, np.mean, measuring.explicit(contract, arguments))]
    marks = storage.marks(contract, lambda mode: measuring.explicit(contract, exact, mode),
                          truth.precision)
    if marks:
        runs.append((ROUNDED, np.max, measuring.stored(contract, arguments, marks)))
    if truth.coarse:
        runs.append((ROUNDED, np.max, measuring.explicit(contract, arguments, storage.Cut())))
    return {name: sum(times * _pooled(found[name].double().numpy() - truth.value[name], pool)
                      for times, pool, found in runs) for name in outputs}


def _pooled(error: np.ndarray, pool) -> np.ndarray:
    """The larger of an error's size over row and column: its RMS, or its largest."""
    square = measuring.rows(np.square(np.nan_to_num(error, posinf=0, neginf=0)))
    pooled = np.maximum(pool(square, 1, keepdims=True), pool(square, 0, keepdims=True))
    return np.sqrt(pooled).reshape(error.shape)


def _verdict(truth, name, wrong, noise) -> str:
    value, dtype = truth.value[name], truth.dtypes.get(name, "float32")
    with np.errstate(all="ignore"):
        wrong = rounded(np.asarray(wrong, np.float64).astype(np.float32), dtype)
        apart = np.abs(wrong - value)
        near = NEAR[dtype] * np.abs(value) + noise + BLIND * 2 * gate.TINIEST[dtype]
        same = (apart <= near) | (wrong == value)
        same |= np.isnan(wrong) & np.isnan(value) | np.isinf(truth.scale[name])
        same |= (np.abs(value) >= gate.LARGEST[dtype]) & (np.sign(wrong) == np.sign(value))
    if same.all():
        return "vacuous"
    return "rejected" if gate.judge(truth, name, wrong)[0] else "ACCEPTED"


def _simple(inputs, value, random, percent) -> Iterator[tuple[str, np.ndarray]]:
    finite = np.nan_to_num(value, posinf=0, neginf=0)
    yield "zeros", np.zeros_like(value)
    yield "mean", np.full_like(value, finite.mean())
    yield "sign flip", -value
    yield "7 % too large", 1.07 * value
    yield "shuffled", random.permutation(value.reshape(-1)).reshape(value.shape)
    yield "rolled by an element", np.roll(value, 1)
    if value.ndim > 1:
        yield "transposed", value.T.reshape(value.shape)
        yield "rolled by a row", np.roll(value, 1, 0)
    for array in inputs.values():
        if isinstance(array, np.ndarray) and array.size == value.size and array.dtype.kind == "f":
            yield "copy of an input", array.reshape(value.shape)
    yield from _damaged(value, random, percent)


def _damaged(value, random, percent) -> Iterator[tuple[str, np.ndarray]]:
    at = random.choice(np.flatnonzero(np.nan_to_num(value)) if value.any() else value.size)
    for what, number in (("one NaN", np.nan), ("one Inf", np.inf)):
        yield what, _with(value, at, number)
    yield "all NaN", np.full_like(value, np.nan)
    off = 1.01 if percent == 1 else 1.1
    yield f"one element {percent} % off", _with(value, at, off * value.reshape(-1)[at])
    rows = measuring.rows(value)
    row, column = (int(random.integers(n)) for n in rows.shape)
    dropped = rows.copy()
    dropped[row] = 0
    yield "one dropped row", dropped.reshape(value.shape)
    dropped = rows.copy()
    dropped[row // 64 * 64:row // 64 * 64 + 64, column // 64 * 64:column // 64 * 64 + 64] = 0
    yield "one dropped tile", dropped.reshape(value.shape)


def _with(value, at, number):
    changed = value.copy()
    changed.reshape(-1)[at] = number
    return changed


def _ignorant(contract: Contract, inputs: Mapping, random) -> Iterator[tuple[str, dict]]:
    """Outputs of an operation that ignores one input, or that is given other inputs."""
    def run(changed: dict) -> dict[str, np.ndarray]:
        return measuring.plain(contract, {**inputs, **changed})

    floats = {name: array for name, array in inputs.items()
              if isinstance(array, np.ndarray) and array.dtype.kind == "f"}
    yield "other inputs", run({name: random.permutation(array.reshape(-1)).reshape(array.shape)
                               for name, array in floats.items()})
    for name, array in inputs.items():
        if name in contract.axis_arguments:
            continue
        if name in floats:
            finite = np.where(np.isfinite(array), array, 0)
            for how, number in (("0", 0), ("1", 1), ("its mean", finite.mean())):
                yield f"{name} taken as {how}", run({name: np.full_like(array, number)})
        elif name in contract.by_name and contract.by_name[name].dyn:
            yield f"{name} taken as another", run({name: np.full_like(array, 1 + (array[0] == 1))})
        elif name in contract.by_name:
            yield f"{name} all the same", run({name: np.full_like(array, array.min())})
        else:
            yield f"{name} taken as 0", run({name: 0.0})
