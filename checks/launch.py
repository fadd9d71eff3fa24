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
from ported.precision import NUMPY, decode, encode
from ported.source import DTYPES, Version

ALIGN = {"c": 64}  # bytes; a GPU's programs hand out pointers of COARSE
COARSE = 256
BLOCK = 99991  # random words are repeated after at most so many
GUARD = 256  # elements on each side of a buffer
FILLS = ("nan", "huge", "random", "zero")
BULK = 1 << 20  # bytes; larger scratch (a library's workspace) is filled on the device
BYTES = {"nan": 0xFF, "huge": 0x7F, "random": 0xA7, "zero": 0}  # that it is filled with
NARROW = {"nan": 0x7FC07FC0, "huge": 0x7F7F7F7F, "zero": 0}  # the same read as float32 or bfloat16


def words(fill: str, count: int, seed: int = 0, narrow: bool = False) -> np.ndarray:
    """`count` words of 4 bytes: NaN, 3.39e38, random bytes, or zeros. `narrow`: each word is that
    as one float32 and as two bfloat16."""
    if fill == "random":
        random = np.random.default_rng([seed, count])
        return np.resize(random.integers(0, 2**32, min(count, BLOCK), np.uint32), count)
    if narrow:
        return np.full(count, NARROW[fill], np.uint32)
    number = {"nan": np.nan, "huge": 3.39e38, "zero": 0.0}[fill]
    return np.full(count, number, np.float32).view(np.uint32)


@dataclass
class Result:
    """What one launch left behind, as NumPy's own numbers (bfloat16 as float32). `faults`:
    (check, buffer, message) of memory that changed."""

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
        self.dtypes = {t.name: device.precision.dtypes[t.role] for t in contract.tensors}
        for name, (dtype, shape, _) in self.kernel.scratch.items():
            self.shapes[name], self.dtypes[name] = shape, dtype
        self.width = {name: DTYPES[dtype] for name, dtype in self.dtypes.items()}
        self.counts = {name: product(shape) for name, shape in self.shapes.items()}
        self.narrow = min(self.width.values()) < 4
        self.align = ALIGN.get(device.language, COARSE)
        self.bulk = {name: self.counts[name] * self.width[name] for name in self.kernel.scratch
                     if self.counts[name] * self.width[name] > BULK}

    def places(self, shifts: Mapping[str, int]) -> tuple[dict[str, int], int]:
        """Byte at which each buffer begins, `shifts` elements behind an aligned one; the end."""
        at, found = 0, {}
        for name, count in self.counts.items():
            if name in self.bulk:
                continue
            width = self.width[name]
            at = -(-(at + GUARD * 4) // self.align) * self.align
            found[name] = at + shifts.get(name, 0) * width
            at = found[name] + count * width
        return found, -(-(at + GUARD * 4) // 4) * 4

    def image(self, inputs: Mapping, starts: Mapping, fill: str, guard: str, shifts: Mapping):
        """The memory before a launch as bytes, and where each buffer lies in it."""
        places, size = self.places(shifts)
        image = words(guard, size // 4, 1, self.narrow).view(np.uint8)
        for seed, (name, at) in enumerate(places.items()):
            count, dtype = self.counts[name], self.dtypes[name]
            nbytes = count * self.width[name]
            tensor = self.contract.by_name.get(name)
            given = starts.get(name, inputs.get(name))
            if tensor is not None and tensor.access == "sum" and given is None:
                given = np.zeros(count, np.float32)
            if given is None or (tensor is not None and tensor.access == "out"):
                filled = words(fill, -(-nbytes // 4), seed, self.narrow).view(np.uint8)
                image[at:at + nbytes] = filled[:nbytes]
            else:
                image[at:at + nbytes] = encode(given, dtype).reshape(-1).view(np.uint8)
        return image, places

    def run(self, inputs: Mapping, *, starts: Mapping | None = None, fill: str = "nan",
            guard: str = "nan", shifts: Mapping | None = None, calls: int = 1,
            skip: int = 0, inplace: Mapping[str, str] | None = None,
            before: Mapping | None = None) -> Result:
        """Launches `calls` times on the same memory. `starts`: what Sum outputs hold before;
        `skip`: bytes between the start of the device's region and the image; `inplace`: outputs
        that lie on an input; `before`: inputs of a launch made before, which leaves to this one
        its scratch and what stands in Out outputs."""
        image, places = self.image(inputs, starts or {}, fill, guard, shifts or {})
        lies_on = inplace or {}
        room = sum(nbytes + 4 * COARSE + 8 * GUARD for nbytes in self.bulk.values())
        base = _region(self.device, skip + image.nbytes + room + 2 * COARSE) + skip
        addresses = {n: base + places[lies_on.get(n, n)] for n in places}
        addresses |= self._spread_out(base + image.nbytes, fill, shifts or {})
        consts = {name: inputs[name] for name in self.contract.consts if name in inputs}
        self.device.write(base, image)
        self._watch({n: at for n, at in addresses.items() if n not in lies_on})
        call = self.kernel.bind(addresses, consts)
        if before is not None:
            self._left(base, image, shifts or {}, {**inputs, **before}, call)
        for _ in range(calls):
            call()
        self.device.synchronize()
        after = self.device.read(base, image.shape, "uint8")
        outputs = {}
        for name in (tensor.name for tensor in self.contract.outputs):
            at = places[lies_on.get(name, name)]
            outputs[name] = decode(self._numbers(after, name, at), self.dtypes[name]).reshape(
                self.shapes[name])
        faults = self._changed(image, after, places, set(lies_on.values()))
        return Result(outputs, faults + self._beside(addresses, fill))

    def _left(self, base: int, image: np.ndarray, shifts: Mapping, inputs: Mapping, call) -> None:
        """Puts into `image`, and on the device, what a launch on other inputs leaves in scratch and
        in outputs that are overwritten."""
        other, places = self.image(inputs, {}, "nan", "nan", shifts)
        self.device.write(base, other)
        call()
        self.device.synchronize()
        after, tensors = self.device.read(base, image.shape, "uint8"), self.contract.by_name
        for name, at in places.items():
            if name not in tensors or tensors[name].access == "out":
                stop = at + self.counts[name] * self.width[name]
                image[at:stop] = after[at:stop]
        self.device.write(base, image)

    def _spread_out(self, at: int, fill: str, shifts: Mapping) -> dict[str, int]:
        """Where bulk scratch lies behind the image, filled with its guards around it."""
        found = {}
        for name, nbytes in self.bulk.items():
            start = -(-(at + 4 * GUARD) // COARSE) * COARSE + shifts.get(name, 0) * self.width[name]
            self.device.fill(start - 4 * GUARD, nbytes + 8 * GUARD, BYTES[fill])
            found[name], at = start, start + nbytes + 4 * GUARD
        return found

    def _beside(self, addresses: Mapping[str, int], fill: str) -> list[tuple[str, str, str]]:
        """Writes beside bulk scratch."""
        faults = []
        for name, nbytes in self.bulk.items():
            for start, side in ((-4 * GUARD, "before"), (nbytes, "past the end of")):
                zone = self.device.read(addresses[name] + start, (4 * GUARD,), "uint8")
                wrong = int((zone != BYTES[fill]).sum())
                if wrong:
                    faults.append(("guards", name, f"a write {side} {name} "
                                   f"{list(self.shapes[name])}; {wrong} bytes there changed"))
        return faults

    def _numbers(self, image: np.ndarray, name: str, at: int) -> np.ndarray:
        """A buffer of the image as it lies in memory."""
        nbytes = self.counts[name] * self.width[name]
        return image[at:at + nbytes].copy().view(NUMPY[self.dtypes[name]])

    def _watch(self, addresses: Mapping[str, int]) -> None:
        """Tells a device that checks accesses where the buffers of the next launch lie, and which
        of them hold numbers before it."""
        if getattr(self.device, "flavour", "fast") == "fast":
            return
        tensors = self.contract.by_name
        zeroed = {name: zeroed for name, (_, _, zeroed) in self.kernel.scratch.items()}
        self.device.watch({
            name: (at, self.counts[name] * self.width[name],
                   tensors[name].access != "out" if name in tensors else zeroed[name])
            for name, at in addresses.items()})

    def _changed(self, before, after, places, given_up) -> list[tuple[str, str, str]]:
        """What changed that the kernel had no right to: inputs, and bytes between buffers.
        `given_up`: inputs that an output lies on."""
        faults, end = [], 0
        for name, at in sorted(places.items(), key=lambda place: place[1]):
            width = self.width[name]
            stop = at + self.counts[name] * width
            tensor = self.contract.by_name.get(name)
            if tensor is not None and tensor.access == "in" and name not in given_up:
                wrong = np.unique(_differing(before, after, at, stop) - at) // width
                if wrong.size:
                    place = [int(i) for i in np.unravel_index(wrong[0], self.shapes[name])]
                    found, stood = (self._shown(image, name, at, wrong[0])
                                    for image in (after, before))
                    faults.append(("frozen", name, f"the input {name}{place} was changed: found "
                                   f"{found}, expected {stood}; {np.unique(wrong).size} elements"))
            last = stop + GUARD * 4
            for start, up_to, side in ((end, at, "before"), (stop, last, "past the end of")):
                wrong = _differing(before, after, start, up_to)
                if wrong.size:
                    away = ((at - 1 - int(wrong[-1])) if side == "before" else
                            int(wrong[0]) - stop) // width + 1
                    faults.append(("guards", name, f"a write {away} elements {side} {name} "
                                   f"{list(self.shapes[name])}; {wrong.size} bytes there changed"))
            end = last
        return faults

    def _shown(self, image, name: str, at: int, index: int) -> str:
        return f"{decode(self._numbers(image, name, at), self.dtypes[name])[index]:.9g}"


def _differing(before: np.ndarray, after: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Bytes of start..stop that are not what they were."""
    if np.array_equal(before[start:stop], after[start:stop]):
        return np.zeros(0, int)
    return start + np.flatnonzero(before[start:stop] != after[start:stop])


_REGIONS: dict[int, tuple[object, int, int]] = {}


def _region(device, nbytes: int) -> int:
    """A region of the device that grows and stays, so that pointers repeat from call to call."""
    known = _REGIONS.get(id(device))
    if known is None or known[2] < nbytes:
        if known is not None:
            device.free(known[1])
        size = max(2 * nbytes, 1 << 24)
        known = _REGIONS[id(device)] = (device, device.allocate(size), size)
    return -(-known[1] // COARSE) * COARSE


__all__ = ["FILLS", "GUARD", "Result", "Stage", "words"]
