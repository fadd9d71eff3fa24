"""pycuda.driver as far as ported/device/cuda*.py calls it: same names, same arguments."""

import ctypes
from ctypes import byref, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_void_p
from enum import IntEnum

import numpy as np

_library = ctypes.CDLL("libcuda.so.1")
NOT_READY = 600
OUT_OF_MEMORY = 2


class Error(Exception):
    """Any failure of the driver."""


class LogicError(Error):
    pass


class MemoryError(Error):  # noqa: A001
    pass


device_attribute = IntEnum("device_attribute", {
    "MULTIPROCESSOR_COUNT": 16, "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN": 97, "L2_CACHE_SIZE": 38,
    "CLOCK_RATE": 13, "MEMORY_CLOCK_RATE": 36, "GLOBAL_MEMORY_BUS_WIDTH": 37,
    "MAX_REGISTERS_PER_MULTIPROCESSOR": 82, "MAX_THREADS_PER_MULTIPROCESSOR": 39})
function_attribute = IntEnum("function_attribute", {
    "MAX_THREADS_PER_BLOCK": 0, "SHARED_SIZE_BYTES": 1, "MAX_DYNAMIC_SHARED_SIZE_BYTES": 8})
event_flags = IntEnum("event_flags", {"DEFAULT": 0, "DISABLE_TIMING": 2})


def _do(name: str, *arguments, may: int = 0) -> int:
    code = getattr(_library, name)(*arguments)
    if code in (0, may):
        return code
    text = c_char_p()
    _library.cuGetErrorString(code, byref(text))
    kind = MemoryError if code == OUT_OF_MEMORY else LogicError
    raise kind(f"{name.split('_')[0]} failed: {text.value.decode()}")


def _number(name: str, *arguments, kind=c_int):
    found = kind()
    _do(name, byref(found), *arguments)
    return found.value


def init() -> None:
    _do("cuInit", 0)


def get_driver_version() -> int:
    return _number("cuDriverGetVersion")


def mem_get_info() -> tuple[int, int]:
    unused, total = c_size_t(), c_size_t()
    _do("cuMemGetInfo_v2", byref(unused), byref(total))
    return unused.value, total.value


class Device:
    def __init__(self, ordinal: int):
        self._device = _number("cuDeviceGet", ordinal)

    @staticmethod
    def count() -> int:
        return _number("cuDeviceGetCount")

    def name(self) -> str:
        text = ctypes.create_string_buffer(1024)
        _do("cuDeviceGetName", text, 1024, self._device)
        return text.value.decode()

    def compute_capability(self) -> tuple[int, int]:
        major, minor = c_int(), c_int()
        _do("cuDeviceComputeCapability", byref(major), byref(minor), self._device)
        return major.value, minor.value

    def get_attribute(self, attribute: int) -> int:
        return _number("cuDeviceGetAttribute", int(attribute), self._device)

    def total_memory(self) -> int:
        return _number("cuDeviceTotalMem_v2", self._device, kind=c_size_t)

    def retain_primary_context(self) -> "Context":
        return Context(_number("cuDevicePrimaryCtxRetain", self._device, kind=c_void_p),
                       self._device)


class Context:
    def __init__(self, handle: int, device: int):
        self._handle, self._device = handle, device

    def push(self) -> None:
        _do("cuCtxPushCurrent_v2", c_void_p(self._handle))

    def detach(self) -> None:
        _do("cuDevicePrimaryCtxRelease_v2", self._device)

    @staticmethod
    def synchronize() -> None:
        _do("cuCtxSynchronize")


class Stream:
    def __init__(self, flags: int = 0):
        self.handle = _number("cuStreamCreate", flags, kind=c_void_p)

    def is_done(self) -> bool:
        return _do("cuStreamQuery", c_void_p(self.handle), may=NOT_READY) == 0


class Event:
    def __init__(self, flags: int = 0):
        self._event = _number("cuEventCreate", int(flags), kind=c_void_p)

    def record(self, stream: Stream) -> "Event":
        _do("cuEventRecord", c_void_p(self._event), c_void_p(stream.handle))
        return self

    def query(self) -> bool:
        return _do("cuEventQuery", c_void_p(self._event), may=NOT_READY) == 0

    def time_till(self, other: "Event") -> float:
        return _number("cuEventElapsedTime_v2", c_void_p(self._event), c_void_p(other._event),
                       kind=ctypes.c_float)


class DeviceAllocation:
    def __init__(self, address: int):
        self._address = address

    def __int__(self) -> int:
        return self._address

    def free(self) -> None:
        _do("cuMemFree_v2", c_void_p(self._address))


def mem_alloc(nbytes: int) -> DeviceAllocation:
    found = c_void_p()
    _do("cuMemAlloc_v2", byref(found), c_size_t(nbytes))
    return DeviceAllocation(found.value)


def pagelocked_empty(shape, dtype) -> np.ndarray:
    return np.empty(shape, dtype)


def memset_d8_async(dest: int, data: int, size: int, stream: Stream) -> None:
    _do("cuMemsetD8Async", c_void_p(dest), c_ubyte(data), c_size_t(size), c_void_p(stream.handle))


def memcpy_htod_async(dest: int, src: np.ndarray, stream: Stream) -> None:
    _do("cuMemcpyHtoDAsync_v2", c_void_p(dest), c_void_p(src.ctypes.data), c_size_t(src.nbytes),
        c_void_p(stream.handle))


def memcpy_dtoh_async(dest: np.ndarray, src: int, stream: Stream) -> None:
    _do("cuMemcpyDtoHAsync_v2", c_void_p(dest.ctypes.data), c_void_p(src), c_size_t(dest.nbytes),
        c_void_p(stream.handle))


class Function:
    def __init__(self, handle: int):
        self._handle = c_void_p(handle)

    def get_attribute(self, attribute: int) -> int:
        return _number("cuFuncGetAttribute", int(attribute), self._handle)

    def set_attribute(self, attribute: int, value: int) -> None:
        _do("cuFuncSetAttribute", self._handle, int(attribute), value)

    def _launch_kernel(self, grid, block, parameters: bytes, shared: int, stream: Stream) -> None:
        size = c_size_t(len(parameters))
        extra = (c_void_p * 5)(1, ctypes.cast(c_char_p(parameters), c_void_p), 2,
                               ctypes.addressof(size), 0)
        sizes = [c_uint(n) for three in (grid, block) for n in (*three, 1, 1)[:3]]
        _do("cuLaunchKernel", self._handle, *sizes, c_uint(shared), c_void_p(stream.handle), None,
            extra)


class Module:
    def __init__(self, handle: int):
        self._handle = c_void_p(handle)

    def get_function(self, name: str) -> Function:
        return Function(_number("cuModuleGetFunction", self._handle, name.encode(),
                                kind=c_void_p))


def module_from_buffer(buffer: bytes) -> Module:
    return Module(_number("cuModuleLoadDataEx", buffer, 0, None, None, kind=c_void_p))
