"""One launch of a case that is spread over more elements than the machine has memory for.

On the cpu device the memory in between is folded (folded.py); on the others it is really there.
What is judged are the elements of the case; what lies between them is written to and never read.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from checks import control_word, known
from checks.folded import Folded
from checks.growth import Grown
from checks.launch import Result
from checks.trial import Broken, Fault, Subject, Trial
from ported import expressions
from ported.binding import product
from ported.device import DeviceError
from ported.precision import decode, encode
from ported.source import DTYPES

NAME = "size"
ROOM = 1 << 30  # bytes of scratch that is laid out in the kernel's own way, and must be memory
PIECE = 1 << 26  # bytes that are written at once


class Spread(Trial):
    """A launch of huge sizes; refusals say them."""

    def __init__(self, subject: Subject, launch: Grown):
        self.subject, self.case, self.sources = subject, launch.case, (NAME,)
        self.ledger, self.contract = subject.ledger, subject.contract
        self.known = known.of(launch.case, subject.contract)
        self.launch = launch

    def refuse(self, check: str, output: str, message: str, ratio: float = float("inf")) -> None:
        self.ledger.refuse(Fault(check, output, f"{message} [{self.launch}]", ratio, "",
                                 self.subject.parameters))


class Memory:
    """Where the buffers of one launch lie, and the elements of them that are kept."""

    def __init__(self, device):
        self.device, self.rooms = device, []

    def __enter__(self) -> "Memory":
        return self

    def __exit__(self, *_) -> None:
        for room in self.rooms:
            room.close()

    def take(self, nbytes: int, word: bytes, windows: list[tuple[int, int]] | None) -> int:
        """The address of `nbytes`, filled with `word` again and again."""
        room = (Folded(nbytes, word, windows) if self.device.language == "c"
                else _Plain(nbytes, word, self.device))
        self.rooms.append(room)
        return room.address

    def put(self, address: int, width: int, flat: np.ndarray, values: np.ndarray) -> None:
        """Encoded `values` to the elements `flat`."""
        for first, end, at in runs(flat):
            self.device.write(address + at * width, values[first:end])

    def get(self, address: int, flat: np.ndarray, dtype: str) -> np.ndarray:
        """The elements `flat` as they lie in memory."""
        width = DTYPES[dtype]
        return np.concatenate([self.device.read(address + at * width, (end - first,), dtype)
                               for first, end, at in runs(flat)])


class _Plain:
    """Memory that is really there."""

    def __init__(self, nbytes: int, word: bytes, device):
        self.device, self.address = device, device.allocate(nbytes)
        if any(word):
            piece = np.frombuffer(word * (min(nbytes, PIECE) // len(word)), np.uint8)
            for at in range(0, nbytes, PIECE):
                device.write(self.address + at, piece[:nbytes - at])

    def fold_changed(self) -> bool:
        return False  # nothing is folded

    def close(self) -> None:
        self.device.free(self.address)


def runs(flat: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """First, end and place of what lies together."""
    cuts = np.flatnonzero(np.diff(flat) != 1) + 1
    for first, end in zip([0, *cuts], [*cuts, len(flat)], strict=True):
        yield int(first), int(end), int(flat[first])


class Huge:
    """One launch: buffers laid out, what is kept written and read."""

    def __init__(self, subject: Subject, launch: Grown, memory: Memory):
        self.launch, self.contract, self.memory = launch, launch.contract, memory
        self.device = memory.device
        self.axes = {axis: launch.sizes[axis] for axis in self.contract.axes}
        self.kernel = self.device.load(subject.version, self.contract, self.axes,
                                       subject.parameters)
        dtypes = self.device.precision.dtypes
        self.dtypes = {t.name: dtypes[t.role] for t in self.contract.tensors}
        self.flat = {t.name: launch.places(t.axes) for t in self.contract.tensors}
        self.addresses: dict[str, int] = {}
        for tensor in self.contract.tensors:
            self._room(tensor.name, self.dtypes[tensor.name], tensor.shape(self.axes),
                       launch.fills.get(tensor.name, 0.0), self.flat[tensor.name])
        for part in subject.version.scratch:
            dtype, shape, _ = self.kernel.scratch[part.name]
            flat = launch.places(part.axes) if launch.named(part.axes) else None
            self._room(part.name, dtype, shape, 0.0, flat)

    def _room(self, name: str, dtype: str, shape, fill: float, flat: np.ndarray | None) -> None:
        width, nbytes = DTYPES[dtype], product(shape) * DTYPES[dtype]
        word = encode(np.array([fill], np.float32), dtype).tobytes() if fill else bytes(width)
        windows = None if flat is None else [
            (at * width, (at + end - first) * width) for first, end, at in runs(flat)]
        self.addresses[name] = self.memory.take(nbytes, word, windows)

    def put(self, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Writes what is known of tensors, NaN to the others; the bytes written, by name."""
        written = {}
        for tensor in self.contract.tensors:
            name, dtype = tensor.name, self.dtypes[tensor.name]
            value = given.get(name)
            if value is None:
                value = np.full(self.flat[name].size, np.nan, np.float32)
            written[name] = np.ascontiguousarray(encode(
                self.launch.value(tensor, value), dtype)).reshape(-1)
            self.memory.put(self.addresses[name], DTYPES[dtype], self.flat[name], written[name])
        return written

    def between(self, name: str) -> bool:
        """Whether something was written to a folded buffer beside what is kept."""
        return any(room.address == self.addresses[name] and room.fold_changed()
                   for room in self.memory.rooms)

    def get(self, name: str) -> np.ndarray:
        return self.memory.get(self.addresses[name], self.flat[name], self.dtypes[name])


def spread(subject: Subject, launch: Grown, device, clock) -> float:
    """One launch on `device`, judged; the seconds that it took by `clock`."""
    trial = Spread(subject, launch)
    starts = trial.known.starts(trial.contract)
    given = {t.name: trial.inputs[t.name] for t in trial.contract.inputs} | starts
    consts = {n: trial.inputs[n] for n in trial.contract.consts if n in trial.inputs}
    with Memory(device) as memory:
        huge = Huge(subject, launch, memory)
        written = huge.put(given)
        call = huge.kernel.bind(huge.addresses, consts)
        start = clock()
        try:
            with control_word.watched(trial._left_changed):
                call()
                device.synchronize()
        except DeviceError as error:
            trial.refuse(NAME, "", str(error))
            raise Broken from error
        seconds = clock() - start
        outputs = {t.name: huge.get(t.name) for t in trial.contract.outputs}
        changed = [t.name for t in trial.contract.inputs if t.access == "in" and (
            huge.between(t.name) or not np.array_equal(
                _bits(huge.get(t.name)), _bits(written[t.name])))]
    for name in changed:
        trial.refuse(NAME, name, f"the input {name} was changed")
    trial.judge(Result({t.name: decode(outputs[t.name], huge.dtypes[t.name]).reshape(
        t.shape(launch.case.sizes)) for t in trial.contract.outputs}), starts=starts)
    return seconds


def _bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint8)


def too_large(subject: Subject, launch: Grown) -> bool:
    """Whether memory that cannot be folded is more than the device has."""
    integers = {**launch.sizes, **subject.parameters, **subject.device.values}
    own = folds = 0
    for part in subject.version.scratch:
        nbytes = 4 * product(expressions.evaluate(axis, integers) for axis in part.axes)
        own += 0 if launch.named(part.axes) else nbytes
        folds += nbytes
    if subject.device.language == "c":
        return own > ROOM
    folds += sum(4 * product(t.shape(launch.sizes)) for t in launch.contract.tensors)
    return folds > subject.device.available() * 9 // 10
