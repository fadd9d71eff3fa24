"""The emulated device: .cu files compiled by g++ for the processor, every CUDA thread a fiber.

    devices.open("emulated", precision="bfloat16", flavour="races", schedule="warps", seed=3)

Flavours: `fast` runs, `addresses` also looks at every access (inside its buffer, aligned, of memory
that has been written), `races` also at their order. Schedules say which of the threads that can go
on does: `fifo`, `reverse` (who came last), `random`, `warps` (one warp runs as far ahead as the
barriers let it); blocks run one after the other, in an order of the schedule's too. What nobody
waits for may happen in any order on a GPU, so results must not depend on the schedule.

A bug found raises EmulationFault from the call: what, where in the source, which block and thread.
Results are the machine's float arithmetic without fused multiply-add, so they repeat bit for bit
on any processor; against a GPU they hold within tolerances.
"""

import ctypes
import hashlib
import re
from collections.abc import Mapping
from functools import partial

import numpy as np

from ported import binding, expressions
from ported import precision as precisions
from ported.contract import Contract
from ported.device import DeviceError, NotApplicable, applicable, cuda_code
from ported.device.cpu import Cpu
from ported.device.emulation import build, faults, symbols
from ported.device.emulation.faults import EmulationFault
from ported.source import DTYPES, Version

FLAVOURS = ("fast", "addresses", "races")
SCHEDULES = ("fifo", "reverse", "random", "warps")
SHARED_LIMIT = 232448  # an H200's
PROCESSORS = 4  # an H200 has 132
# What compiles otherwise for a GPU, and what makes it compute otherwise.
ELSEWHERE = re.compile(r"\b(EMULATED|__CUDA_ARCH__|__CUDACC__|__NVCC__|__GNUC__)\b")
ARITHMETIC = re.compile(r"--?(use_fast_math|ftz|prec-(div|sqrt)|fmad)\b")


class Request(ctypes.Structure):
    """As in emulation/runtime.h."""

    _fields_ = [("grid", ctypes.c_uint64), ("block", ctypes.c_uint64),
                ("dynamic_bytes", ctypes.c_uint64), ("checks", ctypes.c_int32),
                ("schedule", ctypes.c_int32), ("seed", ctypes.c_uint64),
                ("limit", ctypes.c_double), ("static_bytes", ctypes.c_uint64),
                ("variables", ctypes.c_void_p), ("variable_count", ctypes.c_int32)]


class Library:
    """A version's compiled functions, and where its static shared variables lie."""

    def __init__(self, path):
        self.path = path
        self.functions = ctypes.CDLL(str(path))
        self.variables = symbols.shared_variables(path)
        places = [place for _, *rest in self.variables for place in rest]
        self.places = (ctypes.c_uint64 * len(places))(*places)


class EmulatedKernel:
    """One version loaded for given axes and parameters."""

    def __init__(self, device: "Emulated", version: Version, contract: Contract,
                 integers: dict[str, int], library: Library):
        self.device, self.version, self.contract = device, version, contract
        self.integers, self.library = integers, library
        self.scratch = {
            part.name: (device.precision.dtypes[part.role],
                        tuple(expressions.evaluate(axis, integers) for axis in part.axes),
                        part.zeroed)
            for part in version.scratch}
        self.requests = [self._request(launch) for launch in version.launches]

    def bind(self, addresses: Mapping[str, int], consts: Mapping[str, float]):
        """A call without arguments: every pointer and value is packed here, once."""
        consts = {**self.contract.consts, **consts}
        calls = []
        for name, (dtype, shape, zeroed) in self.scratch.items():
            if zeroed:
                calls.append(partial(self.device.fill, addresses[name],
                                     DTYPES[dtype] * binding.product(shape)))
        for launch, request in zip(self.version.launches, self.requests, strict=True):
            packed = binding.arguments(self.version, launch.function, addresses, consts,
                                       self.integers)
            calls.append(partial(self._launch, launch, request, packed))
        return calls[0] if len(calls) == 1 else self.device.replay(calls)

    def _request(self, launch) -> Request:
        def value(text: str) -> int:
            return expressions.evaluate(text, self.integers)

        grid, block, shared, cluster = map(
            value, (launch.grid, launch.block, launch.shared, launch.cluster))
        if cluster != 1:
            raise NotApplicable(f"{self.version.name}: clusters of blocks are not emulated; it "
                                "runs on cuda only")
        variables = self.library.variables
        static = symbols.of_launch(variables, launch.function, self.version.parameters)
        return Request(max(grid, 0), max(block, 0), max(shared, 0), static_bytes=static,
                       variables=ctypes.addressof(self.library.places),
                       variable_count=len(variables))

    def _launch(self, launch, request: Request, packed: list) -> None:
        device = self.device
        request.checks = FLAVOURS.index(device.flavour)
        request.schedule = SCHEDULES.index(device.schedule)
        request.seed, request.limit = device.seed, device.limit
        pointers = (ctypes.c_void_p * len(packed))(*map(ctypes.addressof, packed))
        function = getattr(self.library.functions, f"launch_{launch.function}")
        if function(ctypes.byref(request), pointers):
            raise faults.last(self.version, launch.function, self.library.path)


class Emulated(Cpu):
    """Memory is host memory, as the cpu device's; one thread of the machine runs everything.
    `schedule`, `seed` and `limit` may be set between calls."""

    name = "emulated"
    language = "cu"

    def __init__(self, precision: str, flavour: str, schedule: str, seed: int, limit: float,
                 multiprocessors: int = PROCESSORS):
        super().__init__(threads=1)
        self.multiprocessors = multiprocessors
        self.precision = precisions.of(precision)
        self.flavour, self.schedule, self.seed, self.limit = flavour, schedule, seed, limit
        self.evidence = f"emulated/{precision}"

    @property
    def values(self) -> dict[str, int]:
        """What directives may name besides axes and parameters."""
        return {"multiprocessors": self.multiprocessors, "shared_limit": SHARED_LIMIT}

    @property
    def identity(self) -> dict[str, str]:
        """What a bit-for-bit promise depends on."""
        return {"device": self.evidence,
                "compiler": hashlib.sha256(build.compiler()[1].encode()).hexdigest()[:12],
                "schedule": self.schedule}

    def allocate(self, nbytes: int) -> int:
        address = super().allocate(nbytes)
        faults.engine().emulated_allocated(address, max(nbytes, 1))
        return address

    def free(self, address: int) -> None:
        faults.engine().emulated_allocated(address, 0)
        super().free(address)

    def fill(self, address: int, nbytes: int, byte: int = 0) -> None:
        super().fill(address, nbytes, byte)
        faults.engine().emulated_initialised(address, nbytes)

    def write(self, address: int, array: np.ndarray) -> None:
        super().write(address, array)
        faults.engine().emulated_initialised(address, array.nbytes)

    def array(self, address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        return super().array(address, shape, np.dtype(precisions.NUMPY.get(dtype, dtype)).name)

    def watch(self, buffers: Mapping[str, tuple[int, int, bool]] | None = None) -> None:
        """Says what memory a launch may touch, until the next call: name -> (address, bytes,
        whether it holds numbers yet). In the flavours `addresses` and `races` an access outside
        all of them, or a read of a byte that nobody has written, is a fault that names the nearest
        buffer. Without buffers, every allocation is one, and holds numbers. Launches, `write` and
        `fill` make bytes hold numbers; buffers must not overlap."""
        faults.watch(buffers or {})

    def load(self, version: Version, contract: Contract, axes: Mapping[str, int],
             parameters: Mapping[str, int]) -> EmulatedKernel:
        """`version` compiled for `axes`; NotApplicable where it is not for this device."""
        if version.language != "cu":
            what = "a vendor library" if version.language == "py" else f"a .{version.language} file"
            where = "cuda" if version.language == "py" else "the cpu device"
            raise NotApplicable(f"{version.name} is {what}; it runs on {where} only")
        binding.check(version, contract)
        integers = {**axes, **parameters, **self.values}
        applicable(version, contract, self, integers)
        _the_same_there(version)
        values = cuda_code.values_of(version, axes, parameters)
        path = build.library(version, self.precision, values, self.flavour != "fast")
        if path not in self._libraries:
            self._libraries[path] = Library(path)
        return EmulatedKernel(self, version, contract, integers, self._libraries[path])


def _the_same_there(version: Version) -> None:
    """NotApplicable where a GPU would be given other code or other arithmetic."""
    asks = ELSEWHERE.search(version.own)
    if asks:
        raise NotApplicable(f"{version.name} asks where it runs ({asks[0]}): a GPU may be given "
                            "other code than is tried here; it is proved on cuda only")
    for flag in version.flags:
        if ARITHMETIC.match(flag):
            raise NotApplicable(f"{version.name} is compiled with {flag}, which changes a GPU's "
                                "arithmetic and nothing here; it is proved on cuda only")


def open(precision: str = "float32", flavour: str = "fast",  # noqa: A001
         schedule: str | None = None, seed: int = 0, limit: float = 60.0,
         multiprocessors: int = PROCESSORS) -> Emulated:
    """The emulated device; DeviceError where there is no compiler or no CUDA headers.

    `limit`: seconds of processor time after which a launch counts as hanging; `multiprocessors`:
    how many it says that it has, which versions make their grids of."""
    for what, found, known in (("flavour", flavour, FLAVOURS),
                               ("schedule", schedule or "fifo", SCHEDULES)):
        if found not in known:
            raise DeviceError(f"no {what} '{found}'; known: {', '.join(known)}")
    build.compiler()
    cuda_code.include_directory()
    return Emulated(precision, flavour, schedule or "fifo", seed, limit, multiprocessors)


__all__ = ["FLAVOURS", "SCHEDULES", "Emulated", "EmulationFault", "open"]
