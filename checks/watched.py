"""The cpu device with something between a kernel and what it calls (late.c) and accesses (races.c).

    late.c    a chosen thread sleeps where it enters a team, passes a barrier or asks for work; a
              team gets fewer threads than it asks for; heap and stack hold a chosen byte
    races.c   every access, ordered against the others' by barriers alone: a race is found however
              the threads happened to run

The kernel is compiled with its own flags and only linked otherwise; for races.c it is compiled
with a call at every access besides, and without AVX-512.
"""

import ctypes
import platform
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ported.device import DeviceError, cpu

HERE = Path(__file__).resolve().parent
LOOPS = ("static", "dynamic", "guided", "runtime", "nonmonotonic_dynamic", "nonmonotonic_guided",
         "nonmonotonic_runtime", "maybe_nonmonotonic_runtime")
ULL = ("dynamic", "guided", "nonmonotonic_dynamic", "nonmonotonic_guided")
PAIRS = ("GOMP_critical", "GOMP_critical_name", "GOMP_atomic", "GOMP_ordered")
WRAPPED = (
    "GOMP_parallel", "GOMP_parallel_reductions", "GOMP_parallel_sections",
    *(f"GOMP_parallel_loop_{kind}" for kind in LOOPS),
    *(f"GOMP_loop_{kind}_{what}" for kind in LOOPS for what in ("start", "next")),
    *(f"GOMP_loop_ull_{kind}_{what}" for kind in ULL for what in ("start", "next")),
    "GOMP_sections_start", "GOMP_sections_next", "GOMP_sections_end", "GOMP_barrier",
    "GOMP_loop_end", "GOMP_loop_end_nowait", "GOMP_single_start",
    *(f"{name}_{end}" for name in PAIRS for end in ("start", "end")), "omp_get_thread_num",
    "omp_set_lock", "omp_unset_lock", "pthread_create", "malloc", "calloc", "realloc", "free",
    "aligned_alloc", "memalign", "posix_memalign")
COPIES = ("memcpy", "memmove", "memset")  # wrapped where accesses are looked at
# What else of libgomp a kernel may ask: no order of threads follows from it.
HARMLESS = {"GOMP_sections_end_nowait", *(f"GOMP_loop_ordered_{kind}_{what}" for kind in LOOPS[:4]
                                          for what in ("start", "next"))}
# -fsanitize=thread would link a library that a process must start with; races.c is here instead.
ACCESSES = ("-fsanitize=thread", "-nodefaultlibs", "-Wl,--no-as-needed", "-lgomp", "-lpthread",
            "-lm", "-lc", "-lgcc")
# The compiler calls nothing at masked loads and stores: files take the way that does without.
if platform.machine() in ("x86_64", "AMD64"):
    ACCESSES += ("-mno-avx512f",)
SEVERAL = 4095  # races.c: more than one thread
ROUND, SMALLEST = 50, 16  # calls, and bytes that malloc gives at least
KEPT = 8  # races.c: races that are kept
SETTINGS = ("late", "even", "most", "fill")  # variables of late.c


class Race(ctypes.Structure):
    """One race as races.c keeps it."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("address", "write", "before", "thread")]


class Kernel(cpu.CpuKernel):
    """A kernel whose calls are prepared and followed up by its device."""

    device: "Watched"

    def bind(self, addresses, consts):
        """A call without arguments."""
        call, before, after = super().bind(addresses, consts), *self.device.around(self.library)

        def watched() -> None:
            before()
            call()
            after()

        return watched


class Watched(cpu.Cpu):
    """`threads` are asked for. `races`: accesses are looked at, and `synchronize` raises
    DeviceError for a race in the launch before. `heap`: it does for memory that the calls before
    kept. `number`: what OMP_NUM_THREADS says; `settings`: of late.c, during a call."""

    def __init__(self, threads: int, races: bool = False, heap: bool = False, number: int = 0,
                 **settings: int):
        super().__init__(threads)
        strangers = set(settings) - set(SETTINGS)
        if strangers:
            raise DeviceError(f"found the settings {', '.join(sorted(strangers))}; known: "
                              f"{', '.join(SETTINGS)}")
        self.settings, self.heap, self.number = settings, heap, number
        self.usual = 0
        self.kept: list[int] = []  # bytes that the kernel has of the heap, before each call
        self.flavour = "races" if races else "fast"
        self.places: dict[str, tuple[int, int, bool]] = {}
        self.abstained = self.found = ""  # of the last launch: why nothing can be said; a race
        self.accesses = self.busy = 0  # in parallel regions; threads that made any

    def library(self, version, defines) -> ctypes.CDLL:
        """`version` compiled with what stands in between, loaded once."""
        races = self.flavour == "races"
        wraps = [f"-Wl,--wrap={name}" for name in WRAPPED + (COPIES if races else ())]
        files = [HERE / "late.c", *([HERE / "races.c"] if races else [])]
        more = [*wraps, *(ACCESSES if races else ())]
        return self._loaded(cpu.compile_library(version, defines, more, files))

    def load(self, version, contract, axes, parameters) -> Kernel:
        """As the cpu device does."""
        plain = super().load(version, contract, axes, parameters)
        found = Kernel(version, contract, plain.integers, plain.library)
        found.device = self
        return found

    def around(self, library: ctypes.CDLL) -> tuple:
        """What comes before a call and after it."""
        if not (self.settings or self.heap or self.number or self.flavour == "races"):
            return library.trivium_dirty, int
        return lambda: self._begin(library), lambda: self._end(library)

    def watch(self, places: Mapping[str, tuple[int, int, bool]]) -> None:
        """Where buffers lie in the next launch."""
        self.places = dict(places)

    def _begin(self, library: ctypes.CDLL) -> None:
        races = self.flavour == "races"
        for name, value in {**self.settings, **({"even": 1} if races else {})}.items():
            variable(library, f"trivium_{name}").value = value
        if self.number:
            self.usual = library.omp_get_max_threads()
            library.omp_set_num_threads(self.number)
        self.kept.append(kept(library))
        library.trivium_dirty()
        if races and not library.race_begin():
            raise DeviceError("no memory for a record of accesses")

    def _end(self, library: ctypes.CDLL) -> None:
        for name in SETTINGS:
            variable(library, f"trivium_{name}").value = -1 if name == "fill" else 0
        if self.number:
            library.omp_set_num_threads(self.usual)
        if self.heap and len(self.kept) > ROUND:
            more = kept(library) - self.kept[-ROUND]
            if more >= ROUND * SMALLEST:
                self.found = f"{ROUND} calls kept {more} bytes of the heap"
        if self.flavour == "races":
            self._judge(library)

    def _judge(self, library: ctypes.CDLL) -> None:
        library.race_end()
        strange = unknown(Path(library._name))
        self.accesses, self.busy = (variable(library, name, ctypes.c_uint64).value
                                    for name in ("race_seen", "race_busy"))
        why = {1: "threads ordered by other means than barriers and locks",
               2: "more memory than is kept a record of"}
        self.abstained = why.get(variable(library, "race_abstains").value, "")
        if strange:
            self.abstained = f"of {strange} it is not known here how it orders threads"
        number = variable(library, "race_count").value
        races = (Race * KEPT).in_dll(library, "race_found")
        self.found = "" if self.abstained or not number else self._told(races[0], number)

    def _told(self, race: Race, number: int) -> str:
        """A race in words."""
        place = "memory that is no buffer"
        for name, (at, nbytes, _) in self.places.items():
            if at <= race.address < at + nbytes:
                place = f"{name}[{(race.address - at) // 4}]"
        writer, reader = race.before & SEVERAL, race.before >> 12 & SEVERAL
        other, did = (writer, "written") if writer not in (0, race.thread + 1) else (reader, "read")
        by = "others" if other == SEVERAL else f"thread {other - 1}"
        return (f"{place} is {'written' if race.write else 'read'} by thread {race.thread} and "
                f"{did} by {by} of {self.threads}, with no barrier between; {number} such accesses")

    def synchronize(self) -> None:
        """DeviceError for a race in the last launch, or for what the last calls kept."""
        found, self.found = self.found, ""
        self.kept.clear()
        if found:
            raise DeviceError(found)


@cache
def unknown(path: Path) -> str:
    """The first function of libgomp in a library of which it is not known how it orders threads."""
    found = subprocess.run([shutil.which("nm") or "nm", "-D", "-u", str(path)],
                           capture_output=True, text=True, check=True).stdout.split()
    names = {word.partition("@")[0] for word in found if word.startswith("GOMP_")}
    return min(names - set(WRAPPED) - HARMLESS, default="")


def variable(library: ctypes.CDLL, name: str, kind=ctypes.c_int):
    """A variable of late.c or races.c; its `value` can be read and set."""
    return kind.in_dll(library, name)


def kept(library: ctypes.CDLL) -> int:
    """Bytes of the heap that the kernel has taken and not given back."""
    return variable(library, "trivium_kept", ctypes.c_int64).value


@cache
def device(threads: int, races: bool = False) -> Watched:
    """The device, opened once for each number of threads."""
    return Watched(threads, races)
