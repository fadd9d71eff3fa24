"""A version on the GPU: its functions, and calls whose arguments are packed once.

A launch goes through PyCUDA with a ready block of parameters, about a microsecond. PyCUDA cannot
ask for clusters of blocks: those launches go through cuda.bindings, on the same stream, with the
same machine code loaded there too.
"""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ported import binding, expressions
from ported.contract import Contract
from ported.device import DeviceError, NotApplicable
from ported.device.geometry import Geometry, geometry
from ported.directives import DTYPES
from ported.source import Version

PLAIN_SHARED = 48 << 10  # bytes of shared memory that a function has without asking for more
PORTABLE_CLUSTER = 8


class Call:
    """One piece of work for the device's stream. `name` is what errors say."""

    __slots__ = ("_device", "_enqueue", "name")

    def __init__(self, device, name: str, enqueue: Callable[[], object]):
        self._device, self.name, self._enqueue = device, name, enqueue

    def __call__(self) -> None:
        device = self._device
        device.recent.append(self.name)
        try:
            self._enqueue()
        except Exception as error:  # PyCUDA's, cuda.bindings' or a vendor library's own
            raise device.fault(error, self.name) from error
        if device.tracing:
            device.check(self.name)


class InOrder:
    """Several calls as one."""

    __slots__ = ("calls",)

    def __init__(self, calls: Sequence[Callable[[], object]]):
        self.calls = tuple(calls)

    def __call__(self) -> None:
        for call in self.calls:
            call()


def joined(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    return calls[0] if len(calls) == 1 else InOrder(calls)


class Module:
    """One cubin in the context, with its functions by name."""

    def __init__(self, card, image: bytes, path):
        self._card, self._image, self.path = card, image, path
        try:
            self._module = card.driver.module_from_buffer(image)
        except card.driver.Error as error:
            raise DeviceError(f"cuda: {path} does not load on {card.name}: {error}; "
                              "it was compiled now or found in the cache: delete it") from error
        self._functions: dict[str, object] = {}
        self._shared: dict[str, int] = {}
        self._twin = None

    def function(self, name: str, shape: Geometry):
        """The function, allowed as much shared memory as any launch so far asks for.
        NotApplicable where a block cannot be that large."""
        attributes = self._card.driver.function_attribute
        if name not in self._functions:
            self._functions[name] = self._module.get_function(name)
        function = self._functions[name]
        most = function.get_attribute(attributes.MAX_THREADS_PER_BLOCK)
        if shape.block > most:
            raise NotApplicable(f"{name}: found {shape.block} threads a block; its registers allow "
                                f"{most} (expected a smaller block, or __launch_bounds__)")
        static = function.get_attribute(attributes.SHARED_SIZE_BYTES)
        limit = self._card.attribute("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN")
        if static + shape.shared > limit:
            raise NotApplicable(f"{name}: needs {static + shape.shared} bytes of shared memory a "
                                f"block; {self._card.name} has {limit}")
        if shape.shared > max(self._shared.get(name, 0), PLAIN_SHARED - static):
            function.set_attribute(attributes.MAX_DYNAMIC_SHARED_SIZE_BYTES, shape.shared)
            self._shared[name] = shape.shared
        return function

    def twin(self, name: str, shape: Geometry):
        """The same function as cuda.bindings knows it, allowed the same."""
        cu = self._card.bindings
        if self._twin is None:
            self._twin = checked(cu, cu.cuModuleLoadData(self._image))
        function = checked(cu, cu.cuModuleGetFunction(self._twin, name.encode()))
        wishes = {"CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES": shape.shared}
        if shape.cluster > PORTABLE_CLUSTER:
            wishes["CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED"] = 1
        for attribute, value in wishes.items():
            checked(cu, cu.cuFuncSetAttribute(
                function, getattr(cu.CUfunction_attribute, attribute), value))
        return function


def checked(cu, answer: tuple):
    """The values of a cuda.bindings call. DeviceError with the driver's words for an error."""
    code, *values = answer
    if code != cu.CUresult.CUDA_SUCCESS:
        _, text = cu.cuGetErrorString(code)
        raise DeviceError(f"{code.name}: {(text or b'unknown').decode()}")
    return values[0] if len(values) == 1 else None


class CudaKernel:
    """A .cu version loaded for given axes and compile-time values."""

    def __init__(self, device, version: Version, contract: Contract, integers: dict[str, int],
                 module: Module):
        self.device, self.version, self.contract = device, version, contract
        self.integers, self._module = integers, module
        self._shapes = [geometry(version.name, launch, integers) for launch in version.launches]
        for launch, shape in zip(version.launches, self._shapes, strict=True):
            module.function(launch.function, shape)
        self.scratch = {
            part.name: (device.precision.dtypes[part.role],
                        tuple(expressions.evaluate(axis, integers) for axis in part.axes),
                        part.zeroed)
            for part in version.scratch}

    def bind(self, addresses: Mapping[str, int], consts: Mapping[str, float]):
        """A call without arguments: scratch that starts as zeros is cleared, then the launches."""
        consts = {**self.contract.consts, **consts}
        calls = cleared(self.device, self.version.name, self.scratch, addresses)
        for launch, shape in zip(self.version.launches, self._shapes, strict=True):
            values = binding.arguments(self.version, launch.function, addresses, consts,
                                       self.integers)
            name = f"{self.version.name} {launch.function} ({shape})"
            calls.append(Call(self.device, name, self._launch(launch.function, shape, values)))
        return joined(calls)

    def _launch(self, function: str, shape: Geometry, values: list) -> Callable[[], object]:
        stream = self.device.stream
        if shape.cluster > 1:
            return _clustered(self.device.card.bindings, self._module.twin(function, shape), shape,
                              values, stream.handle)
        return partial(self._module.function(function, shape)._launch_kernel,
                       (shape.grid,), (shape.block,), binding.packed(values), shape.shared, stream)


class PlannedKernel:
    """A .py version: the plan of a vendor library, its calls named and traced like any other."""

    def __init__(self, device, version: Version, plan):
        self.device, self.version, self._plan = device, version, plan
        self.scratch = dict(plan.scratch)

    def bind(self, addresses: Mapping[str, int], consts: Mapping[str, float]):
        """A call without arguments: scratch that starts as zeros is cleared, then the plan's."""
        name = self.version.name
        calls = cleared(self.device, name, self.scratch, addresses)
        call = self._plan.bind(addresses, consts)
        return joined([*calls, Call(self.device, f"{name} (vendor library)", call)])


def cleared(device, name: str, scratch: Mapping, addresses: Mapping[str, int]) -> list[Call]:
    """The calls that clear what a version wants zeroed, before each run of it."""
    return [Call(device, f"{name} clears {part}",
                 partial(device.driver.memset_d8_async, addresses[part], 0,
                         DTYPES[dtype] * binding.product(shape), device.stream))
            for part, (dtype, shape, zeroed) in scratch.items() if zeroed]


def _clustered(cu, function, shape: Geometry, values: list, stream: int) -> Callable[[], object]:
    """A launch with a cluster size; `values` and the pointers to them stay as long as it does."""
    attribute = cu.CUlaunchAttribute()
    attribute.id = cu.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION
    size = attribute.value.clusterDim
    size.x, size.y, size.z = shape.cluster, 1, 1
    config = cu.CUlaunchConfig()
    config.gridDimX, config.gridDimY, config.gridDimZ = shape.grid, 1, 1
    config.blockDimX, config.blockDimY, config.blockDimZ = shape.block, 1, 1
    config.sharedMemBytes, config.hStream = shape.shared, cu.CUstream(stream)
    config.attrs, config.numAttrs = [attribute], 1
    pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))

    def launch(kept=(values, pointers)) -> None:
        checked(cu, cu.cuLaunchKernelEx(config, function, ctypes.addressof(kept[1]), 0))

    return launch


__all__ = ["Call", "CudaKernel", "InOrder", "Module", "PlannedKernel", "checked", "joined"]
