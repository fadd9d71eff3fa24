"""Faults of the emulated device: the runtime's record as an exception that names source lines."""

import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path

from ported.device import DeviceError
from ported.device.emulation import build
from ported.source import Version

PLACES = 8  # as MOST_PLACES in internal.h


class EmulationFault(DeviceError):
    """A bug that the emulated device found in a kernel. `kind` is one of out_of_bounds,
    misaligned, uninitialised, race, barrier (in diverging branches), mask (of a warp operation),
    deadlock, hang, launch (the driver would refuse it), arithmetic, stack, trap.

    `lines`: of the version's file, the fault's own and then, where two threads are at odds, the
    other's; 0 where unknown. `block` and `thread` as numbers."""

    def __init__(self, message: str, kind: str, launch: str, block: int, thread: int,
                 lines: tuple[int, ...]):
        super().__init__(message)
        self.kind, self.launch, self.block, self.thread = kind, launch, block, thread
        self.lines = lines


class Record(ctypes.Structure):
    """As Fault in internal.h."""

    _fields_ = [("kind", ctypes.c_char * 24), ("text", ctypes.c_char * 600),
                ("block", ctypes.c_uint32), ("thread", ctypes.c_uint32),
                ("other_block", ctypes.c_uint32), ("other_thread", ctypes.c_uint32),
                ("places", ctypes.c_int32), ("other_places", ctypes.c_int32),
                ("image", ctypes.c_void_p),
                ("at", ctypes.c_void_p * PLACES), ("other", ctypes.c_void_p * PLACES)]


class Buffer(ctypes.Structure):
    """As Watched in memory.cpp."""

    _fields_ = [("name", ctypes.c_char_p), ("address", ctypes.c_uint64),
                ("nbytes", ctypes.c_uint64), ("initialised", ctypes.c_int32)]


@cache
def engine() -> ctypes.CDLL:
    """The runtime's library, which every kernel's library brings in."""
    library = ctypes.CDLL(str(build.runtime()))
    library.emulated_fault.restype = ctypes.POINTER(Record)
    library.emulated_initialised.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    library.emulated_allocated.argtypes = [ctypes.c_uint64, ctypes.c_uint64]
    library.emulated_watch.argtypes = [ctypes.POINTER(Buffer), ctypes.c_int32]
    return library


def watch(buffers) -> None:
    """Emulated.watch."""
    entries = [Buffer(name.encode(), address, nbytes, initialised)
               for name, (address, nbytes, initialised) in buffers.items()]
    engine().emulated_watch((Buffer * len(entries))(*entries), len(entries))


def _lines(library: str, image: int, places: list[int]) -> list[tuple[str, int]]:
    """(file, line) of return addresses, inlined callers after each; the emulated device's own
    headers left out."""
    tool = shutil.which("addr2line")
    if tool is None or not places:
        return []
    offsets = [hex(place - image - 1) for place in places]  # the call, not what follows it
    result = subprocess.run([tool, "-i", "-e", library, *offsets], capture_output=True, text=True)
    found = []
    for line in result.stdout.splitlines():
        file, _, number = line.partition(" (")[0].rpartition(":")
        inside = Path(file).is_relative_to(build.OWN)
        if number.isdigit() and not inside and not file.endswith(("/built.cpp", "??")):
            found.append((file, int(number)))
    return found


def _place(chain: list[tuple[str, int]]) -> str:
    """`common.cuh:75, called at forward_02_warps.cu:31`."""
    words = list(dict.fromkeys(f"{Path(file).name}:{line}" for file, line in chain))
    return ", called at ".join(words[:3]) or "an unknown line (is addr2line of binutils there?)"


def last(version: Version, launch: str, library: Path) -> EmulationFault:
    """The runtime's last fault, as an exception to raise."""
    record = engine().emulated_fault().contents
    chains = [_lines(str(library), record.image, list(places)[:count])
              for places, count in ((record.at, record.places),
                                    (record.other, record.other_places))]
    text = record.text.decode(errors="replace")
    other = f"{_place(chains[1])} (block {record.other_block}, thread {record.other_thread})"
    text = text.replace("{at}", _place(chains[0])).replace("{other}", other)
    path = version.path.resolve()
    own = f"{build.SOURCE}/{path.name}"
    lines = tuple(next((line for file, line in chain if file == own), 0)
                  for chain in chains[: 1 + bool(record.other_places)])
    kind = record.kind.decode()
    where = f"{path.name}: {launch}"
    if record.places:
        where += f", block {record.block}, thread {record.thread}"
    return EmulationFault(f"{where}: {kind.replace('_', ' ')}: {text}", kind, launch,
                          record.block, record.thread, lines)


__all__ = ["EmulationFault", "engine", "last", "watch"]
