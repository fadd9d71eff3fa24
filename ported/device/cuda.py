"""The cuda device: .cu files as cubins and vendor plans, on one stream of one GPU, through PyCUDA.

Everything is put on `stream` and nothing waits but `read`, `synchronize` and writes of more than a
few MiB. While it is waited for, the device is asked again and again, with a limit, so that a
kernel that hangs is an error and not the end of the day; see cuda_errors for what comes after it.
"""

import importlib.util
import os
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from ported import binding
from ported import precision as precisions
from ported.contract import Contract
from ported.device import DeviceError, NotApplicable, applicable, cuda_code, cuda_errors
from ported.device.cuda_driver import Card, start
from ported.device.cuda_graph import captured
from ported.device.cuda_launch import CudaKernel, InOrder, Module, PlannedKernel
from ported.device.cuda_ring import SEGMENT, Ring
from ported.source import Version
from ported.stages import stage

NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for torch's default stream
LIMIT = 120.0  # seconds
SPIN = 2e-3  # seconds of asking without a pause
LIBRARIES = ("nvidia-cublas", "nvidia-cudnn-cu13", "nvmath-python", "nvidia-cudnn-frontend")


class Cuda:
    """One GPU in one precision. `limit`: seconds that a wait may last. `tracing`: wait after every
    launch, so that a fault names its kernel."""

    name = "cuda"
    language = "cu"
    threads = 1

    def __init__(self, card: Card, numbers: precisions.Precision, limit: float, tracing: bool):
        self.card, self.driver, self.precision = card, card.driver, numbers
        self.limit, self.tracing = limit, tracing
        self.stream = card.driver.Stream(NON_BLOCKING)
        self.recent: deque[str] = deque(maxlen=8)
        self.gone: DeviceError | None = None
        self.capturing = False
        self.architecture = card.architecture
        self.processor = card.name
        self.evidence = f"sm_{card.capability[0]}{card.capability[1]}/{numbers.name}"
        self.values = {"multiprocessors": card.attribute("MULTIPROCESSOR_COUNT"),
                       "shared_limit": card.attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")}
        self._allocations: dict[int, object] = {}
        self._modules: dict[Path, Module] = {}
        self._ring = Ring(self.driver, self.stream, lambda event: self._wait(event.query))

    @property
    def properties(self) -> dict[str, int]:
        """Numbers of the card: bytes, and kHz for the clocks."""
        wanted = {"level2": "L2_CACHE_SIZE", "clock": "CLOCK_RATE", "memory_clock":
                  "MEMORY_CLOCK_RATE", "bus_bits": "GLOBAL_MEMORY_BUS_WIDTH",
                  "registers": "MAX_REGISTERS_PER_MULTIPROCESSOR",
                  "threads": "MAX_THREADS_PER_MULTIPROCESSOR"}
        found = {name: self.card.attribute(word) for name, word in wanted.items()}
        return {**found, **self.values, "memory": self.card.handle.total_memory()}

    @property
    def identity(self) -> dict[str, str]:
        """What a bit-for-bit promise depends on."""
        found = self.driver.get_driver_version()
        return {"device": self.processor, "architecture": self.architecture,
                "precision": self.precision.name, "nvcc": nvcc_version(),
                "driver": f"{kernel_driver()} (CUDA {found // 1000}.{found % 1000 // 10})",
                **{name: _installed(name) for name in LIBRARIES}}

    def available(self) -> int:
        """Bytes of the card's memory that are free now."""
        return self.driver.mem_get_info()[0]

    def allocate(self, nbytes: int) -> int:
        """Zeroed memory, 256-byte aligned. DeviceError where the card has not so much."""
        try:
            memory = self.driver.mem_alloc(max(nbytes, 1))
        except self.driver.MemoryError:
            raise DeviceError(
                f"cuda: out of memory: wanted {nbytes} bytes, {self.available()} of "
                f"{self.card.handle.total_memory()} are free on {self.processor}; take a smaller "
                "batch, or end what else uses the GPU (nvidia-smi)") from None
        except self.driver.Error as error:
            raise self.fault(error, f"allocating {nbytes} bytes") from error
        self._allocations[int(memory)] = memory
        self.fill(int(memory), nbytes)
        return int(memory)

    def free(self, address: int) -> None:
        """Gives memory back; waits for work that may use it. After a fault it goes with the
        process."""
        memory = self._allocations.pop(address, None)
        if memory is not None and self.gone is None and self.card.open:
            self.synchronize()
            memory.free()

    def fill(self, address: int, nbytes: int, byte: int = 0) -> None:
        if nbytes:
            self._do("fill", self.driver.memset_d8_async, address, byte, nbytes)

    def write(self, address: int, array: np.ndarray) -> None:
        """The array as it lies in memory; it may change as soon as this returns. Nothing waits for
        the GPU, but for a long array for its earlier parts."""
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        try:
            for at in range(0, flat.size, SEGMENT):
                self._ring.write(address + at, flat[at:at + SEGMENT])
        except self.driver.Error as error:
            raise self.fault(error, f"writing {flat.size} bytes") from error

    def read(self, address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """A copy, after all work before it; bfloat16 as uint16."""
        self.synchronize()
        found = np.empty(shape, precisions.NUMPY.get(dtype, dtype))
        self._do("read", self.driver.memcpy_dtoh_async, found, address)
        self.synchronize()
        return found

    def _do(self, what: str, function, *arguments) -> None:
        """A call of the driver on the stream."""
        self.recent.append(what)
        try:
            function(*arguments, self.stream)
        except self.driver.Error as error:
            raise self.fault(error, what) from error
        if self.tracing:
            self.check(what)

    def load(self, version: Version, contract: Contract, axes: Mapping[str, int],
             parameters: Mapping[str, int]) -> CudaKernel | PlannedKernel:
        """`version` compiled, or planned, for `axes`. NotApplicable where it does not fit."""
        binding.check(version, contract)
        integers = {**axes, **parameters, **self.values}
        if version.language == "c":
            raise NotApplicable(f"{version.name} is C; it runs on the device cpu")
        applicable(version, contract, self, integers)
        if version.language == "py":
            with stage(f"plans of {version.name}"):
                plan = module_of(version).plan(dict(axes), dict(parameters), self)
            return PlannedKernel(self, version, plan)
        path = cuda_code.cubin(version, self.precision,
                               cuda_code.values_of(version, axes, parameters), self.architecture)
        if path not in self._modules:
            with stage("cubins"):
                self._modules[path] = Module(self.card, path.read_bytes(), path)
        return CudaKernel(self, version, contract, integers, self._modules[path])

    def prepare(self, wishes: Iterable[tuple[Version, Mapping, Mapping]]) -> None:
        """Compiles at once, as many at a time as there are processors, what `load` is going to ask
        for: (version, axes, parameters). What fails, fails again and says so when it is loaded."""
        wanted = {}
        for version, axes, parameters in wishes:
            values = cuda_code.values_of(version, axes, parameters)
            if version.language == "cu":
                wanted[version.name, *sorted(values.items())] = version, values
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for version, values in wanted.values():
                pool.submit(cuda_code.cubin, version, self.precision, values, self.architecture)

    def configurations(self, version: Version, contract: Contract,
                       axes: Mapping[str, int]) -> list[dict[str, int]]:
        """What is worth timing: a file's own combinations, or a library's algorithms."""
        if version.language == "py":
            return module_of(version).candidates(dict(axes), self)
        return version.configurations()

    def replay(self, calls: Sequence):
        """One call that makes all `calls` in order: a captured graph, or, traced, themselves."""
        return InOrder(calls) if self.tracing or not calls else captured(self, calls)

    def elapsed(self, call, repeats: int = 1) -> list[float]:
        """Milliseconds of each of `repeats` calls, one after the other, by the GPU's clock. A call
        shorter than its launch (some microseconds) is timed as a graph of many: see `replay`."""
        events = [self.driver.Event() for _ in range(repeats + 1)]
        events[0].record(self.stream)
        for event in events[1:]:
            call()
            event.record(self.stream)
        self.synchronize()
        return [a.time_till(b) for a, b in zip(events, events[1:], strict=False)]

    def trace(self, on: bool = True) -> None:
        """Whether every launch from now on is waited for and checked."""
        self.tracing = on

    def check(self, name: str) -> None:
        """Waits, and blames `name` for what is found."""
        self._wait(self.stream.is_done, f"{name}")

    def synchronize(self, limit: float | None = None) -> None:
        """Waits for the stream; DeviceGone for a fault, or after `limit` seconds."""
        self._wait(self.stream.is_done, limit=limit)

    def _wait(self, done, doing: str = "waiting for the GPU", limit: float | None = None) -> None:
        if self.gone:
            raise self.gone
        if self.capturing:
            raise DeviceError("cuda: found a wait among calls that are being captured")
        begin = time.monotonic()
        limit = self.limit if limit is None else limit
        try:
            while not done():
                waited = time.monotonic() - begin
                if waited > limit:
                    self.card.hung = True
                    self.gone = cuda_errors.hung(limit, self.recent)
                    raise self.gone
                time.sleep(0 if waited < SPIN else 1e-4)
        except self.driver.Error as error:
            self.gone = cuda_errors.lost(error, doing, self.recent, self.tracing)
            raise self.gone from error

    def fault(self, error: Exception, doing: str) -> DeviceError:
        """The error of a call: its own, or that of work before it, which the stream shows."""
        if self.gone:
            return self.gone
        try:
            if not self.capturing:
                self.stream.is_done()
        except self.driver.Error as earlier:
            self.gone = cuda_errors.lost(earlier, doing, self.recent, self.tracing)
            return self.gone
        return cuda_errors.refused(error, doing)


def module_of(version: Version):
    """A .py version's module: `plan(axes, parameters, device)` and `candidates(axes, device)`."""
    return _module_at(version.path, version.name, version.digest)


@cache
def _module_at(path: Path, name: str, digest: str):
    spec = importlib.util.spec_from_file_location(f"vendor_{name}_{digest[:12]}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def nvcc_version() -> str:
    """CUDA's release as nvcc says it: 13.0.88."""
    shown = subprocess.run([cuda_code.nvcc()[0], "--version"], capture_output=True, text=True)
    return next((word.strip("V,\n") for word in shown.stdout.split() if word.startswith("V")),
                "unknown")


@cache
def kernel_driver() -> str:
    """The version of the system's driver: 580.159.04."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split()
    except OSError:
        return "unknown"
    return next((word for word in words if word[0].isdigit() and word.count(".")), "unknown")


@cache
def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def open(precision: str = "float32", ordinal: int = 0,  # noqa: A001
         limit: float | None = None) -> Cuda:
    """The GPU `ordinal` of those that CUDA_VISIBLE_DEVICES shows, computing in `precision`.

    `limit`: seconds that a wait may last (TRIVIUM_GPU_LIMIT, or 120). TRIVIUM_TRACE=1 traces.
    DeviceError where there is no GPU, driver, PyCUDA, nvcc, or one too old; PrecisionError for a
    precision that does not exist."""
    numbers = precisions.of(precision)
    limit = _seconds(os.environ.get(cuda_errors.LIMIT)) if limit is None else limit
    tracing = os.environ.get(cuda_errors.TRACE, "0") != "0"
    card = start(ordinal)
    cuda_code.nvcc()
    return Cuda(card, numbers, limit, tracing)


def _seconds(text: str | None) -> float:
    try:
        return float(text) if text else LIMIT
    except ValueError:
        raise DeviceError(f"{cuda_errors.LIMIT}: found '{text}', expected seconds, as in "
                          f"{cuda_errors.LIMIT}=600") from None
