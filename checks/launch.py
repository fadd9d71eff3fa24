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
GUARD = 256  # elements on each side of a buffer
FILLS = ("nan", "huge", "random", "zero")


def words(fill: str, count: int, seed: int = 0) -> np.ndarray:
    """`count` words of 4 bytes: NaN, 3.39e38, random bytes, or zeros."""
    if fill == "random":
        return np.random.default_rng([seed, count]).integers(0, 2**32, count, np.uint32)
    number = {"nan": np.nan, "huge": 3.39e38, "zero": 0.0}[fill]
    return np.full(count, number, np.float32).view(np.uint32)


@dataclass
class Result:
    """What one launch left behind. `faults`: (check, buffer, message) of memory that changed."""

    outputs: dict[str, np.ndarray]
    faults: list[tuple[str, str, str]] = field(default_factory=list)


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
        """The memory before a launch, and which words the kernel may write."""
        places, size = self.places(shifts)
        image = words(guard, size, 1)
        free = np.zeros(size, bool)
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
            free[at:at + count] = tensor is None or tensor.access != "in"
        return image, free, places

    def run(self, inputs: Mapping, *, starts: Mapping | None = None, fill: str = "nan",
            guard: str = "nan", shifts: Mapping | None = None, calls: int = 1,
            skip: int = 0) -> Result:
        """Launches `calls` times on the same memory. `starts`: what Sum outputs hold before;
        `skip`: bytes between the start of the device's region and the image."""
        image, free, places = self.image(inputs, starts or {}, fill, guard, shifts or {})
        base = _region(self.device, skip + image.nbytes + ALIGN) + skip
        addresses = {name: base + 4 * at for name, at in places.items()}
        consts = {name: inputs[name] for name in self.contract.consts if name in inputs}
        self.device.write(base, image)
        call = self.kernel.bind(addresses, consts)
        for _ in range(calls):
            call()
        self.device.synchronize()
        after = self.device.read(base, image.shape, "uint32")
        outputs = {t.name: after[places[t.name]:places[t.name] + self.counts[t.name]]
                   .view(self.types[t.name]).reshape(self.shapes[t.name])
                   for t in self.contract.outputs}
        return Result(outputs, self._changed(image, after, free, places))

    def _changed(self, before, after, free, places) -> list[tuple[str, str, str]]:
        wrong = np.flatnonzero((before != after) & ~free)
        if not wrong.size:
            return []
        faults, name_of = [], sorted(places, key=places.get)
        starts = np.array([places[name] for name in name_of])
        for name in name_of:
            inside = wrong[(wrong >= places[name]) & (wrong < places[name] + self.counts[name])]
            if inside.size:
                at = np.unravel_index(inside[0] - places[name], self.shapes[name])
                found, stood = (_shown(image, inside[0], self.types[name])
                                for image in (after, before))
                faults.append(("frozen", name, f"the input {name}{[int(i) for i in at]} was "
                               f"changed: found {found}, expected {stood}; {inside.size} elements"))
                wrong = np.setdiff1d(wrong, inside)
        for word in wrong[:1]:
            later = int(np.searchsorted(starts, word, "right")) - 1
            name = name_of[max(later, 0)]
            past = int(word) - places[name] - self.counts[name] + 1
            side = (f"{past} elements past the end of {name}" if past > 0
                    else f"{places[name] - int(word)} elements before {name}")
            faults.append(("guards", name, f"a write {side} {list(self.shapes[name])}; "
                           f"{wrong.size} words outside every buffer were changed"))
        return faults


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
