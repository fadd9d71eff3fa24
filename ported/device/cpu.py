"""The cpu device: C files through the machine's compiler and ctypes, called without copying.

Shared objects are cached under the user's cache directory, addressed by the version's meaning,
flags, compile-time values, compiler and instruction set, so that nothing is compiled twice and
nothing stale is loaded.
"""

import ctypes
import hashlib
import mmap
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from ported import binding, expressions
from ported.contract import ROOT, Contract
from ported.device import DeviceError, applicable
from ported.precision import FLOAT32
from ported.source import Version

FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fopenmp", "-fno-math-errno",
         "-ffp-contract=fast", "-shared", "-fPIC")
NOTABLE = ("sse4_2", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")
HUGE_PAGE = 2 << 20


def cache_directory() -> Path:
    """Trivium's folder in the user's cache directory (XDG_CACHE_HOME, or ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trivium"


@cache
def compiler() -> tuple[str, str]:
    """The C compiler's path and its identity: path, size and time of change."""
    wanted = os.environ.get("CC")
    for name in [wanted] if wanted else ["gcc", "cc", "clang"]:
        path = shutil.which(name)
        if path:
            state = os.stat(os.path.realpath(path))
            return path, f"{os.path.realpath(path)}:{state.st_size}:{state.st_mtime_ns}"
    raise DeviceError(f"no C compiler: looked for {wanted or 'gcc, cc, clang'} on PATH; install "
                      "one (Debian, Ubuntu: apt install gcc) or set CC to its path")


def _cpuinfo(*keys: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(keys))
    return next(found, platform.processor() or platform.machine())


@cache
def instruction_set() -> tuple[str, str]:
    """The processor's extensions: the notable ones by name, and a digest of all of them."""
    words = set(_cpuinfo("flags", "Features").split())
    digest = hashlib.sha256(" ".join(sorted(words)).encode()).hexdigest()[:12]
    return " ".join(word for word in NOTABLE if word in words), digest


def compile_library(version: Version, defines: Mapping[str, int], more: Sequence[str] = (),
                    besides: Sequence[Path] = ()) -> Path:
    """The shared object of one version, from the cache or compiled now; `more` flags and C files
    `besides` it make another one, which a check may want."""
    path, identity = compiler()
    flags = [*FLAGS, *version.flags, *(f"-D{name}={value}" for name, value in defines.items()),
             *more]
    texts = [file.read_text() for file in besides]
    key = "\n".join([version.digest, *flags, identity, *instruction_set(), *texts])
    digest = hashlib.sha256(key.encode()).hexdigest()[:20]
    library = cache_directory() / "cpu" / f"{version.name}-{digest}.so"
    if library.is_file():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    includes = ["-I", str(version.path.parent), "-I", str(ROOT / "ported" / "c_src")]
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        built = Path(scratch) / "kernel.so"
        files = [str(file) for file in (version.path, *besides)]
        command = [path, *flags, *includes, *files, "-o", str(built), "-lm"]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            message = "\n".join(result.stderr.splitlines()[:20])
            raise DeviceError(f"{version.path}: does not compile:\n{message}\n"
                              f"the command: {' '.join(command)}")
        os.replace(built, library)
    return library


class CpuKernel:
    """One version loaded for given axes, compile-time values and number of threads."""

    def __init__(self, version: Version, contract: Contract, integers: dict[str, int],
                 library: ctypes.CDLL):
        self.version = version
        self.contract = contract
        self.integers = integers
        self.library = library
        self.scratch = {
            part.name: (version.dtype_of(part.role),
                        tuple(expressions.evaluate(axis, integers) for axis in part.axes),
                        part.zeroed)
            for part in version.scratch}

    def bind(self, addresses: Mapping[str, int], consts: Mapping[str, float]):
        """A call without arguments: every pointer and value is packed here, once."""
        consts = {**self.contract.consts, **consts}
        calls = []
        for name, (dtype, shape, zeroed) in self.scratch.items():
            if zeroed:
                nbytes = 4 * binding.product(shape)
                assert dtype in ("float32", "int32")
                calls.append(partial(ctypes.memset, ctypes.c_void_p(addresses[name]), 0, nbytes))
        for launch in self.version.launches:
            function = getattr(self.library, launch.function)
            function.restype = None
            packed = binding.arguments(self.version, launch.function, addresses, consts,
                                       self.integers)
            calls.append(partial(function, *packed))
        return calls[0] if len(calls) == 1 else partial(_in_order, tuple(calls))


def _in_order(calls) -> None:
    for call in calls:
        call()


class Cpu:
    """Memory is host memory; `threads` OpenMP threads run every kernel that asks for them."""

    name = "cpu"
    language = "c"
    precision = FLOAT32

    def __init__(self, threads: int | None = None):
        self.threads = threads or len(os.sched_getaffinity(0))
        self.evidence = f"cpu-{platform.machine()}"
        self.processor = f"{_cpuinfo('model name')} {instruction_set()[1]}"
        self._regions: dict[int, mmap.mmap] = {}
        self._libraries: dict[Path, ctypes.CDLL] = {}

    @property
    def values(self) -> dict[str, int]:
        """What directives may name besides axes and parameters."""
        return {"threads": self.threads}

    @property
    def identity(self) -> dict[str, str]:
        """What a bit-for-bit promise depends on."""
        names, digest = instruction_set()
        return {"device": self.evidence, "instruction_set": names, "instruction_digest": digest,
                "compiler": hashlib.sha256(compiler()[1].encode()).hexdigest()[:12],
                "threads": str(self.threads)}

    def allocate(self, nbytes: int) -> int:
        """Zeroed memory on huge pages where the system gives them; the address in bytes."""
        region = mmap.mmap(-1, max(nbytes, 1) + HUGE_PAGE)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            region.madvise(mmap.MADV_HUGEPAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(region))
        address = -(-start // HUGE_PAGE) * HUGE_PAGE
        self._regions[address] = region
        return address

    def free(self, address: int) -> None:
        """Forgets a region; its pages go back once no array looks at them."""
        self._regions.pop(address)

    def available(self) -> int:
        """Bytes that can be had now: what the system has free, within the group's limit."""
        try:
            words = Path("/proc/meminfo").read_text().split()
            free = 1024 * int(words[words.index("MemAvailable:") + 1])
        except (OSError, ValueError):
            free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        group = Path("/sys/fs/cgroup")
        try:
            limit = int((group / "memory.max").read_text())
            words = (group / "memory.stat").read_text().split()
            kept = int(words[words.index("inactive_file") + 1])  # cache that gives way
            return min(free, limit - int((group / "memory.current").read_text()) + kept)
        except (OSError, ValueError):  # no such file, or no limit: "max"
            return free

    def fill(self, address: int, nbytes: int, byte: int = 0) -> None:
        ctypes.memset(address, byte, nbytes)

    def array(self, address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """The memory itself as an array; writing to it writes to the device. Its region's pages
        stay as long as the array."""
        size = binding.product(shape) * np.dtype(dtype).itemsize
        memory = (ctypes.c_char * size).from_address(address)
        memory.region = next((region for start, region in self._regions.items()
                              if start <= address < start + len(region) - HUGE_PAGE), None)
        return np.frombuffer(memory, dtype).reshape(shape)

    def write(self, address: int, array: np.ndarray) -> None:
        array = np.ascontiguousarray(array)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def read(self, address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return self.array(address, shape, dtype).copy()

    def load(self, version: Version, contract: Contract, axes: Mapping[str, int],
             parameters: Mapping[str, int]) -> CpuKernel:
        """`version` compiled and bound to `axes`; SourceError where `needs` do not hold."""
        binding.check(version, contract)
        integers = {**axes, **parameters, **self.values}
        applicable(version, contract, self, integers)
        defines = {**parameters, **{axis: axes[axis] for axis in version.static}}
        return CpuKernel(version, contract, integers, self.library(version, defines))

    def library(self, version: Version, defines: Mapping[str, int]) -> ctypes.CDLL:
        """`version` compiled with these values, loaded once."""
        return self._loaded(compile_library(version, defines))

    def _loaded(self, path: Path) -> ctypes.CDLL:
        if path not in self._libraries:
            self._libraries[path] = ctypes.CDLL(str(path))
        return self._libraries[path]

    def replay(self, calls):
        """One call that makes all `calls` in order."""
        return partial(_in_order, tuple(calls))

    def synchronize(self) -> None:
        """Calls return when their work is done."""


def open(threads: int | None = None, precision: str = "float32") -> Cpu:  # noqa: A001
    """The cpu device; raises DeviceError where there is no compiler, and for a precision that C
    files do not have."""
    if precision != "float32":
        raise DeviceError(f"the cpu device computes in float32; found the precision {precision}; "
                          "take --device cuda or emulated")
    compiler()
    return Cpu(threads)
