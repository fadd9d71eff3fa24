"""The run-shape tier at cases of gigabytes: the same checks, without what would be thrown away.

Results stay as they lie in memory. What the gate judges (edges and random slices, sampling.py) is
cut out first and decoded then; of the rest it asks only whether it is finite, which the bits say;
and that two launches agree bit for bit is asked of the bytes. What a forward saves for its backward
is an input like any other there, so float32 computes it here.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from checks import cases, gate, known, sampling
from checks.cases import Case, Drawn
from checks.launch import BLOCK, COARSE, GUARD, Result, Stage, _region, words
from checks.trial import Subject, Trial
from ported import precision as precisions
from ported.contract import Contract
from ported.precision import NUMPY, decode, encode

EXPONENT = {"float32": np.uint32(0x7F800000), "bfloat16": np.uint16(0x7F80)}
BITS = {"float32": np.uint32, "bfloat16": np.uint16, "int32": np.uint32}
PIECE = 1 << 22  # elements looked at at a time


def is_large(contract: Contract, case: Case) -> bool:
    """Whether the gate judges parts of it."""
    return sampling._elements(contract, case.sizes) > sampling.ELEMENTS


class LargeStage(Stage):
    """Encodes an input once, and gives outputs as they lie in memory (bfloat16 as uint16)."""

    def __init__(self, *given):
        super().__init__(*given)
        self._encoded: dict[str, np.ndarray] = {}

    def _bytes(self, name: str, given: np.ndarray, keep: bool) -> np.ndarray:
        if name not in self._encoded or not keep:
            made = encode(given, self.dtypes[name]).reshape(-1).view(np.uint8)
            if not keep:
                return made
            self._encoded[name] = made
        return self._encoded[name]

    def image(self, inputs: Mapping, starts: Mapping, fill: str, guard: str, shifts: Mapping):
        """As `Stage.image`, each byte written once."""
        places, size = self.places(shifts)
        image, end = np.empty(size, np.uint8), 0
        for seed, (name, at) in enumerate(places.items()):
            nbytes = self.counts[name] * self.width[name]
            _fill(image, end, at, words(guard, BLOCK, 1, self.narrow))
            end = at + nbytes
            tensor = self.contract.by_name.get(name)
            into = image[at:at + nbytes]
            if tensor is not None and tensor.access == "in":
                into[:] = self._bytes(name, inputs[name], keep=True)
            elif name in starts or tensor is not None and tensor.access == "inout":
                given = starts[name] if name in starts else inputs[name]
                into[:] = self._bytes(name, given, keep=False)
            elif tensor is not None and tensor.access == "sum":
                into[:] = 0
            else:
                _fill(into, 0, nbytes, words(fill, BLOCK, seed, self.narrow))
        _fill(image, end, size, words(guard, BLOCK, 1, self.narrow))
        return image, places

    def run(self, inputs: Mapping, *, starts: Mapping | None = None, fill: str = "nan",
            guard: str = "nan") -> Result:
        """One launch, as `Stage.run`."""
        image, places = self.image(inputs, starts or {}, fill, guard, {})
        room = sum(nbytes + 4 * COARSE + 8 * GUARD for nbytes in self.bulk.values())
        base = _region(self.device, image.nbytes + room + 2 * COARSE)
        addresses = {name: base + at for name, at in places.items()}
        addresses |= self._spread_out(base + image.nbytes, fill, {})
        consts = {name: inputs[name] for name in self.contract.consts if name in inputs}
        self.device.write(base, image)
        self._watch(addresses)
        self.kernel.bind(addresses, consts)()
        self.device.synchronize()
        after = self.device.read(base, image.shape, "uint8")
        faults = self._changed(image, after, places, set()) + self._beside(addresses, fill)
        return Result({t.name: self._raw(after, places, t.name) for t in self.contract.outputs},
                      faults)

    def _raw(self, after: np.ndarray, places: Mapping, name: str) -> np.ndarray:
        nbytes = self.counts[name] * self.width[name]
        found = after[places[name]:places[name] + nbytes].view(NUMPY[self.dtypes[name]])
        return found.reshape(self.shapes[name])


def _fill(image: np.ndarray, start: int, stop: int, block: np.ndarray) -> None:
    """The block's words again and again into bytes start to stop; a word begins at each fourth."""
    block = block.view(np.uint8)
    for at in range(start - start % block.size, stop, block.size):
        first, last = max(at, start), min(at + block.size, stop)
        image[first:last] = block[first - at:last - at]


class LargeSubject(Subject):
    """A subject whose stages are large."""

    def stage(self, sizes: Mapping[str, int], device=None) -> Stage:
        key = tuple(sorted(sizes.items()))
        if key not in self._stages:
            self._stages[key] = LargeStage(device or self.device, self.version, self.contract,
                                           sizes, self.parameters)
        return self._stages[key]


def know(case: Case, contract: Contract) -> None:
    """Makes what is known of the case, where `known.of` finds it."""
    with np.errstate(all="ignore"):
        drawn = _drawn(case, contract)
        truth = gate.truth_of(contract, drawn.inputs, seed=case.seed,
                              precision=precisions.of(case.precision))
    known._KNOWN[case] = known.Known(drawn, truth, {})


def _drawn(case: Case, contract: Contract) -> Drawn:
    """`cases.draw`, with the forward in float32."""
    forward = cases.forward_of(contract)
    saved = {t.name for t in forward.outputs} & {t.name for t in contract.inputs} if forward else ()
    if not saved or "B" not in case.sizes:
        return cases.draw(case, contract)
    given = cases._plain(case, forward)
    made = {name: cases.stored(case, forward.by_name[name], value)
            for name, value in _forward(forward, given, case.sizes["B"]).items() if name in saved}
    found = {**given, **made}
    inputs = {t.name: found[t.name] if t.name in found else cases._value(case, t, case.sizes)
              for t in contract.inputs}
    inputs |= {name: case.sizes[name] for name in contract.axis_arguments}
    return Drawn(case, {**inputs, **cases._constants(case, contract)}, given)


def _forward(forward: Contract, given: Mapping, B: int) -> dict[str, np.ndarray]:
    """The explicit forward in float32, a sequence after the other."""
    split, found = {t.name for t in forward.inputs if t.axes[:1] == ("B",)}, []
    for at in range(B):
        tensors = gate.tensors_of(forward, {
            name: value[at:at + 1] if name in split else value for name, value in given.items()})
        narrow = {name: value.float() if torch.is_tensor(value) and value.is_floating_point()
                  else value for name, value in tensors.items()}
        found.append(gate.explicit(forward, narrow))
    return {name: torch.cat([part[name] for part in found]).numpy() for name in found[0]}


def judge(trial: Trial) -> None:
    """Poison, accumulate, guards and gate."""
    contract = trial.contract
    first = trial.run()
    _judged(trial, first)
    starts = trial.known.starts(contract)
    again = trial.run(fill="random", guard="random", starts=starts)
    what = ("outputs, scratch and the memory around them held random bytes instead of NaN")
    others = [name for name in again.outputs if name not in starts]
    if trial.subject.claims("deterministic"):
        trial.ledger.ran("poison")
        for name in others:
            _equal(trial, name, again.outputs[name], first.outputs[name], what)
    else:
        _judged(trial, again.only(others), ["poison"], what + ": ")
    if starts:
        _judged(trial, again.only(starts), ["accumulate"], "added to random numbers: ", starts)


def _equal(trial: Trial, name: str, found: np.ndarray, expected: np.ndarray, what: str) -> None:
    """Bit for bit; where the bytes differ, numbers are looked at (any NaN equals any NaN)."""
    dtype, flat = trial.stage.dtypes[name], (found.reshape(-1), expected.reshape(-1))
    for at in range(0, flat[0].size, PIECE):
        a, b = (one[at:at + PIECE] for one in flat)
        if not np.array_equal(a.view(BITS[dtype]), b.view(BITS[dtype])):
            trial.equal("poison", name, decode(found, dtype), decode(expected, dtype), what)
            return


def _judged(trial: Trial, result: Result, checks=None, what: str = "",
            starts: Mapping | None = None) -> None:
    """The gate on the parts that it has a truth of; the rest has to be finite."""
    truth, starts = trial.known.truth, starts or {}
    cut, dtypes = {}, trial.stage.dtypes
    for name, raw in result.outputs.items():
        cut[name] = decode(np.ascontiguousarray(truth.cut(name, raw)), dtypes[name])
        if np.isfinite(truth.value[name]).all() and not finite(raw, dtypes[name]):
            whole = decode(raw, dtypes[name])
            finding = gate._finite(name, whole)[0]
            trial.refuse((checks or trial.sources)[0], name, f"{what}class: {finding.message}")
    begun = {name: truth.cut(name, value) for name, value in starts.items()}
    trial.judge(Result(cut), checks, what, begun, truth=replace(truth, parts=[]))


def finite(raw: np.ndarray, dtype: str) -> bool:
    """Whether no number of a buffer is infinite or NaN, as its bits say."""
    if dtype not in EXPONENT:
        return True
    flat, mask = raw.reshape(-1).view(BITS[dtype]), EXPONENT[dtype]
    return all(((flat[at:at + PIECE] & mask) != mask).all() for at in range(0, flat.size, PIECE))


__all__ = ["LargeSubject", "finite", "is_large", "judge", "know"]
