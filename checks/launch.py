"""One launch under watch: every buffer between guard zones, in memory filled on purpose.

The whole memory of a launch is one image: it is made on the host, written to the device, and read
back after the call. So every launch of the prover, whatever it is for, also says whether an input,
a guard zone or the padding changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ported.binding import product
from ported.contract import Contract
from ported.source import DTYPES, Version

ALIGN = 64  # bytes
BLOCK = 99991  # random words are repeated after at most so many
GUARD = 256  # elements on each side of a buffer
FILLS = ("nan", "huge", "random", "zero")


def words(fill: str, count: int, seed: int = 0) -> np.ndarray:
    """`count` words of 4 bytes: NaN, 3.39e38, random bytes, or zeros."""
    if fill == "random":
        random = np.random.default_rng([seed, count])
        return np.resize(random.integers(0, 2**32, min(count, BLOCK), np.uint32), count)
    number = {"nan": np.nan, "huge": 3.39e38, "zero": 0.0}[fill]
    return np.full(count, number, np.float32).view(np.uint32)


@dataclass
class Result:
    """What one launch left behind. `faults`: (check, buffer, message) of memory that changed."""

    outputs: dict[str, np.ndarray]
    faults: list[tuple[str, str, str]] = field(default_factory=list)

    def only(self, names) -> "Result":
        """The outputs of these names."""
        return Result({name: self.outputs[name] for name in names})


class Stage:
    """One version loaded for given axes and parameters, ready to be launched many times."""

    def __init__(self, device, version: Version, contract: Contract, axes: Mapping[str, int],
                 parameters: Mapping[str, int]):
        self.device, self.contract = device, contract
        self.axes = {axis: axes[axis] for axis in contract.axes}
        self.kernel = device.load(version, contract, self.axes, parameters)
        self.shapes = {t.name: t.shape(self.axes) for t in contract.tensors}
        dtypes = {t.name: version.dtype_of(t.role) for t in contract.tensors}
        for name, (dtype, shape, _) in self.kernel.scratch.items():
            self.shapes[name], dtypes[name] = shape, dtype
        self.counts = {name: product(shape) for name, shape in self.shapes.items()}
        if any(DTYPES[dtype] != 4 for dtype in dtypes.values()):
            raise ValueError(f"{version.name}: found {dtypes}; expected dtypes of 4 bytes")
        self.types = {name: np.int32 if t == "int32" else np.float32 for name, t in dtypes.items()}

    def places(self, shifts: Mapping[str, int]) -> tuple[dict[str, int], int]:
        """Word at which each buffer begins, `shifts` elements behind an aligned one; the end."""
        per_line, at, found = ALIGN // 4, 0, {}
        for name, count in self.counts.items():
            at = -(-(at + GUARD) // per_line) * per_line
            found[name] = at + shifts.get(name, 0)
            at = found[name] + count
        return found, at + GUARD

    def image(self, inputs: Mapping, starts: Mapping, fill: str, guard: str, shifts: Mapping):
        """The memory before a launch, and where each buffer lies in it."""
        places, size = self.places(shifts)
        image = words(guard, size, 1)
        for seed, (name, at) in enumerate(places.items()):
            count = self.counts[name]
            tensor = self.contract.by_name.get(name)
            given = starts.get(name, inputs.get(name))
            if tensor is not None and tensor.access == "sum" and given is None:
                given = np.zeros(count, np.float32)
            if given is None or (tensor is not None and tensor.access == "out"):
                image[at:at + count] = words(fill, count, seed)
            else:
                image[at:at + count] = np.ascontiguousarray(given, self.types[name]).reshape(
                    -1).view(np.uint32)
        return image, places

    def run(self, inputs: Mapping, *, starts: Mapping | None = None, fill: str = "nan",
            guard: str = "nan", shifts: Mapping | None = None, calls: int = 1,
            skip: int = 0, inplace: Mapping[str, str] | None = None) -> Result:
        """Launches `calls` times on the same memory. `starts`: what Sum outputs hold before;
        `skip`: bytes between the start of the device's region and the image; `inplace`: outputs
        that lie on an input."""
        image, places = self.image(inputs, starts or {}, fill, guard, shifts or {})
        lies_on = inplace or {}
        base = _region(self.device, skip + image.nbytes + ALIGN) + skip
        addresses = {n: base + 4 * places[lies_on.get(n, n)] for n in places}
        consts = {name: inputs[name] for name in self.contract.consts if name in inputs}
        self.device.write(base, image)
        call = self.kernel.bind(addresses, consts)
        for _ in range(calls):
            call()
        self.device.synchronize()
        after = self.device.read(base, image.shape, "uint32")
        outputs = {}
        for name in (tensor.name for tensor in self.contract.outputs):
            at = places[lies_on.get(name, name)]
            words_of = after[at:at + self.counts[name]].view(self.types[name])
            outputs[name] = words_of.reshape(self.shapes[name])
        return Result(outputs, self._changed(image, after, places, set(lies_on.values())))

    def _changed(self, before, after, places, given_up) -> list[tuple[str, str, str]]:
        """What changed that the kernel had no right to: inputs, and words between buffers.
        `given_up`: inputs that an output lies on."""
        faults, end = [], 0
        for name, at in sorted(places.items(), key=lambda place: place[1]):
            stop = at + self.counts[name]
            tensor = self.contract.by_name.get(name)
            if tensor is not None and tensor.access == "in" and name not in given_up:
                wrong = _differing(before, after, at, stop)
                if wrong.size:
                    place = [int(i) for i in np.unravel_index(wrong[0] - at, self.shapes[name])]
                    found, stood = (_shown(image, wrong[0], self.types[name])
                                    for image in (after, before))
                    faults.append(("frozen", name, f"the input {name}{place} was changed: found "
                                   f"{found}, expected {stood}; {wrong.size} elements"))
            for start, last, side in ((end, at, "before"), (stop, stop + GUARD, "past the end of")):
                wrong = _differing(before, after, start, last)
                if wrong.size:
                    word = int(wrong[-1 if side == "before" else 0])
                    away = at - word if side == "before" else word - stop + 1
                    faults.append(("guards", name, f"a write {away} elements {side} {name} "
                                   f"{list(self.shapes[name])}; {wrong.size} words there changed"))
            end = stop + GUARD
        return faults


def _differing(before: np.ndarray, after: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Words of start..stop that are not what they were."""
    if np.array_equal(before[start:stop], after[start:stop]):
        return np.zeros(0, int)
    return start + np.flatnonzero(before[start:stop] != after[start:stop])


def _shown(image, word, dtype) -> str:
    return f"{image[word:word + 1].view(dtype)[0]:.9g}"


_REGIONS: dict[int, tuple[object, int, int]] = {}


def _region(device, nbytes: int) -> int:
    """A region of the device that grows and stays, so that pointers repeat from call to call."""
    known = _REGIONS.get(id(device))
    if known is None or known[2] < nbytes:
        if known is not None:
            device.free(known[1])
        size = max(2 * nbytes, 1 << 24)
        known = _REGIONS[id(device)] = (device, device.allocate(size), size)
    return known[1]


__all__ = ["FILLS", "GUARD", "Result", "Stage", "words"]
