"""The driver, opened: PyCUDA, cuda.bindings and one card's primary context.

The primary context is the one that torch and the CUDA libraries use too. It stays on PyCUDA's
stack until the process ends, and is given back then: PyCUDA aborts a process that leaves one there,
and frees a primary context by the wrong call if it is only popped.
"""

import atexit
import importlib
import os
import shlex
import sys
import tomllib
from dataclasses import dataclass
from types import ModuleType

from ported.contract import ROOT
from ported.device import DeviceError
from ported.stages import stage

DRIVER = 13000  # CUDA 13.0
CAPABILITY = (8, 0)


@dataclass
class Card:
    """One GPU: `driver` is pycuda.driver, `bindings` cuda.bindings.driver, `handle` PyCUDA's
    device."""

    ordinal: int
    driver: ModuleType
    bindings: ModuleType
    handle: object
    capability: tuple[int, int]
    context: object
    open: bool = True
    hung: bool = False

    def close(self) -> None:
        """Gives the context back. What lives in it is gone for PyCUDA, which then frees nothing
        more: at the end of a process the driver does. Behind a kernel that hangs it would wait
        for ever, so the process ends here then, as failed."""
        self.open = False
        if self.hung:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)
        self.context.detach()

    @property
    def architecture(self) -> str:
        """What nvcc compiles for; Hopper's own instructions need the `a`."""
        number = f"sm_{self.capability[0]}{self.capability[1]}"
        return "sm_90a" if number == "sm_90" else number

    @property
    def name(self) -> str:
        return self.handle.name()

    def attribute(self, name: str) -> int:
        """One of the driver's numbers about the card, by PyCUDA's name for it."""
        return self.handle.get_attribute(getattr(self.driver.device_attribute, name))


def requirements() -> list[str]:
    """The packages of the extra `cuda`, as pyproject.toml lists them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project["optional-dependencies"]["cuda"]


def _install() -> str:
    return shlex.join([sys.executable, "-m", "pip", "install", *requirements()])


def _import(name: str) -> ModuleType:
    """A module of the extra. DeviceError says what to install, or what the driver lacks."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DeviceError(f"cuda: found no Python package {error.name}; expected the extra `cuda`: "
                          "`make cuda` (3 to 4 minutes) or, with CUDA 13's toolkit on PATH: "
                          f"{_install()}") from None
    except ImportError as error:
        if "undefined symbol" in str(error):
            raise DeviceError(f"cuda: the driver is too old for {name}: {error}; expected one of "
                              "CUDA 13 (580 or newer); update the driver") from None
        if "libcuda" in str(error):
            raise DeviceError(f"cuda: no GPU driver: {error}; expected NVIDIA's driver and a GPU. "
                              "Without one: --device emulated, or --device cpu") from None
        raise DeviceError(f"cuda: {name} does not import: {error}; install it anew: "
                          f"{_install()}") from None


def _initialised() -> ModuleType:
    driver = _import("pycuda.driver")
    try:
        driver.init()
        count = driver.Device.count()
    except driver.Error as error:
        raise DeviceError(f"cuda: the driver does not start: {error}; expected a GPU that "
                          "nvidia-smi lists. Without one: --device emulated, or --device cpu"
                          ) from None
    if not count:
        raise DeviceError("cuda: found no GPU; expected one that nvidia-smi lists and that "
                          "CUDA_VISIBLE_DEVICES does not hide. Without one: --device emulated")
    found = driver.get_driver_version()
    if found < DRIVER:
        raise DeviceError(f"cuda: found a driver for CUDA {found // 1000}.{found % 1000 // 10}; "
                          "expected CUDA 13.0 or newer (driver 580); update the driver")
    return driver


_cards: dict[int, Card] = {}


def start(ordinal: int = 0) -> Card:
    """The card with its context current in this thread. A process has one card; opening it again
    gives the same. DeviceError where anything is missing or too old."""
    if ordinal in _cards:
        return _cards[ordinal]
    if _cards:
        raise DeviceError(f"cuda: found GPU {next(iter(_cards))} open; expected one GPU a process; "
                          f"start another process for GPU {ordinal}")
    with stage("PyCUDA and the driver"):
        driver = _initialised()
    with stage("cuda.bindings"):
        bindings = _import("cuda.bindings.driver")
    if not 0 <= ordinal < driver.Device.count():
        raise DeviceError(f"cuda: found no GPU {ordinal}; this machine shows "
                          f"{driver.Device.count()}, numbered from 0")
    handle = driver.Device(ordinal)
    capability = handle.compute_capability()
    if capability < CAPABILITY:
        raise DeviceError(f"cuda: {handle.name()} has compute capability {capability[0]}."
                          f"{capability[1]}; expected {CAPABILITY[0]}.{CAPABILITY[1]} or newer "
                          "(Ampere). On this machine: --device emulated, or --device cpu")
    try:
        with stage("context"):
            context = handle.retain_primary_context()
            context.push()
    except driver.Error as error:
        raise DeviceError(f"cuda: {handle.name()} gives no context: {error}; see nvidia-smi for "
                          "who uses it") from None
    card = _cards[ordinal] = Card(ordinal, driver, bindings, handle, capability, context)
    atexit.register(card.close)
    return card


__all__ = ["Card", "requirements", "start"]
