"""One small interface, three devices: `cpu` (C files), `cuda` and `emulated` (.cu files).

A device allocates memory, moves arrays, and loads a version for given axes and parameters:

    device = devices.open("cuda", precision="bfloat16")
    kernel = device.load(version, contract, axes, parameters)   # compiled, cached by content
    call = kernel.bind(addresses, consts)                       # packs the arguments once
    call()                                                      # runs it; allocates nothing
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ported.precision import Precision

NAMES = ("cpu", "emulated", "cuda")


class DeviceError(RuntimeError):
    """The device, its compiler or its driver is missing or refused; the message says what to do."""


class NotApplicable(ValueError):
    """A version that does not apply: its `needs` do not hold at these shapes, its dtypes are not
    the run's, or the device cannot run its language. Never replaced silently."""


class Kernel(Protocol):
    """A loaded version: `scratch` maps a part's name to (dtype, shape, zeroed)."""

    scratch: dict[str, tuple[str, tuple[int, ...], bool]]

    def bind(self, addresses: Mapping[str, int],
             consts: Mapping[str, float]) -> Callable[[], object]: ...


class Device(Protocol):
    """`name` is what the command line says, `evidence` the folder under golden/evidence (with the
    precision where there is more than one), `processor` what timings are keyed by, `identity` what
    bit-for-bit promises depend on (instruction set, compiler, threads), `values` what directives
    may name besides axes (`threads`; `multiprocessors`, `shared_limit`).

    A kernel's call may return before its work is done; `read` and `synchronize` wait for it.
    `replay` makes one call of many, which a device may turn into a graph."""

    name: str
    evidence: str
    language: str
    processor: str
    threads: int
    precision: Precision
    values: dict[str, int]
    identity: dict[str, str]

    def available(self) -> int: ...
    def allocate(self, nbytes: int) -> int: ...  # zeroed
    def free(self, address: int) -> None: ...
    def fill(self, address: int, nbytes: int, byte: int = 0) -> None: ...
    def write(self, address: int, array) -> None: ...
    def read(self, address: int, shape: tuple[int, ...], dtype: str): ...
    def load(self, version, contract, axes, parameters) -> Kernel: ...
    def replay(self, calls: Sequence[Callable[[], object]]) -> Callable[[], object]: ...
    def synchronize(self) -> None: ...


def applicable(version, contract, device: Device, integers: Mapping[str, int]) -> None:
    """Raises NotApplicable where `version` is not for this device, precision or shape."""
    bound = ", ".join(f"{name}={value}" for name, value in integers.items())
    if not version.supports(device.precision, contract.roles):
        raise NotApplicable(f"{version.name}: its dtype lines do not allow {device.precision.name}")
    unmet = version.unmet_needs(integers)
    if unmet:
        raise NotApplicable(f"{version.name} needs {' and '.join(unmet)}; found {bound}")


def open(name: str, **settings) -> Device:  # noqa: A001
    """The device called `name`; DeviceError names the known ones and what is missing.

    `precision`, one of ported.precision, belongs to the opened device; so do `threads` (cpu)."""
    if name not in NAMES:
        raise DeviceError(f"no device '{name}'; known devices: {', '.join(NAMES)}")
    return importlib.import_module(f"ported.device.{name}").open(**settings)
