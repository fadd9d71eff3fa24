"""One small interface, three devices: `cpu` (C files), `cuda` and `emulated` (.cu files).

A device allocates memory, moves arrays, and loads a version for given axes and parameters:

    device = devices.open("cpu")
    kernel = device.load(version, contract, axes, parameters)   # compiled, cached by content
    call = kernel.bind(addresses, consts)                       # packs the arguments once
    call()                                                      # runs it; allocates nothing
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Protocol

NAMES = ("cpu",)


class DeviceError(RuntimeError):
    """The device, its compiler or its driver is missing or refused; the message says what to do."""


class Kernel(Protocol):
    """A loaded version: `scratch` maps a part's name to (dtype, shape, zeroed)."""

    scratch: dict[str, tuple[str, tuple[int, ...], bool]]

    def bind(self, addresses: Mapping[str, int],
             consts: Mapping[str, float]) -> Callable[[], object]: ...


class Device(Protocol):
    """`name` is what the command line says, `evidence` the folder under golden/evidence,
    `processor` what timings are keyed by, `identity` what bit-for-bit promises depend on
    (instruction set, compiler, threads)."""

    name: str
    evidence: str
    language: str
    processor: str
    threads: int
    identity: dict[str, str]

    def available(self) -> int: ...
    def allocate(self, nbytes: int) -> int: ...  # zeroed
    def free(self, address: int) -> None: ...
    def fill(self, address: int, nbytes: int, byte: int = 0) -> None: ...
    def write(self, address: int, array) -> None: ...
    def read(self, address: int, shape: tuple[int, ...], dtype: str): ...
    def load(self, version, contract, axes, parameters) -> Kernel: ...
    def synchronize(self) -> None: ...


def open(name: str, **settings) -> Device:  # noqa: A001
    """The device called `name`; DeviceError names the known ones and what is missing."""
    if name not in NAMES:
        raise DeviceError(f"no device '{name}'; known devices: {', '.join(NAMES)}")
    return importlib.import_module(f"ported.device.{name}").open(**settings)
