"""What the versions of vendor libraries share: a plan of parts, and buffers that lie badly.

A part is a library's call or a small kernel of our own; it has `scratch` and `bind` as a kernel
has. The libraries want addresses that are multiples of 16, which is what every program gives them.
Elsewhere (a caller's own pointers) the buffer is copied to a place of its own and back around the
call, so that the same algorithm runs and the result is the same bit for bit.
"""

import importlib
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from ported import source
from ported.binding import product
from ported.contract import ROOT, Contract
from ported.device import DeviceError
from ported.directives import DTYPES

ALIGNMENT = 16  # bytes, of every buffer a library is given
SCRATCH_ALIGNMENT = 256  # bytes, of scratch


@dataclass(frozen=True)
class Plan:
    """`scratch`: name -> (dtype, shape, zeroed); `bind(addresses, consts)` gives a call without
    arguments that puts the work on the device's stream and allocates nothing."""

    scratch: Mapping[str, tuple[str, tuple[int, ...], bool]]
    bind: Callable[[Mapping[str, int], Mapping[str, float]], Callable[[], object]]


def imported(name: str, package: str, alone: bool = False) -> ModuleType:
    """A library's Python side. `alone`: without what its parent packages do when they start, which
    for nvmath is to load every library it knows, about a second. DeviceError says which package is
    missing."""
    stood_in: list[str] = []
    try:
        if alone and name not in sys.modules:
            stood_in = _stand_in_for_parents(name)
        return importlib.import_module(name)
    except ImportError as error:
        raise DeviceError(f"no {name}: {error}; a version of this vendor library needs it: "
                          f"pip install {package}") from error
    finally:
        for parent in stood_in:  # who imports the package itself gets the whole of it
            del sys.modules[parent]


def _stand_in_for_parents(name: str) -> list[str]:
    """Empty packages, with the real ones' paths, for those parents that are not there yet."""
    made, path = [], None
    words = name.split(".")[:-1]
    for k in range(len(words)):
        parent = ".".join(words[:k + 1])
        if parent not in sys.modules:
            spec = PathFinder.find_spec(parent, path)
            if spec is None:
                for one in made:
                    del sys.modules[one]
                raise ModuleNotFoundError(f"No module named '{parent}'", name=parent)
            sys.modules[parent] = ModuleType(parent)
            sys.modules[parent].__path__ = list(spec.submodule_search_locations or [])
            made.append(parent)
        path = sys.modules[parent].__path__
    return made


def kernel(path: str, contract: Contract, axes: Mapping[str, int], device):
    """A kernel of our own beside a library's call: `path` inside cuda_src, arguments as
    `contract` says, loaded like any version with the first of its configurations."""
    version = source.read(ROOT / "cuda_src" / Path(path), contract.operation, contract.direction)
    needed = {axis: axes[axis] for axis in contract.axes}
    return device.load(version, contract, needed, version.configurations()[0])


class Renamed:
    """A part whose arguments have other names here: `names` says ours by the part's own.
    `scratch`: more that the version needs, for what passes between its parts."""

    def __init__(self, part, names: Mapping[str, str], scratch: Mapping | None = None):
        self.scratch = {**part.scratch, **(scratch or {})}
        self._part, self._names = part, names

    def bind(self, addresses: Mapping[str, int], consts: Mapping[str, float]):
        there = {name: addresses[ours] for name, ours in self._names.items()}
        return self._part.bind({**addresses, **there}, consts)


def sequence(parts: Sequence, contract: Contract, axes: Mapping[str, int], device) -> Plan:
    """The plan that runs `parts` in order. Scratch of the same name is shared by them; all of it
    has room to begin at a multiple of SCRATCH_ALIGNMENT."""
    nbytes: dict[str, int] = {}
    zeroed: set[str] = set()
    for part in parts:
        for name, (dtype, shape, zero) in part.scratch.items():
            nbytes[name] = max(nbytes.get(name, 0), DTYPES[dtype] * product(shape))
            zeroed |= {name} if zero else set()
    scratch = {name: ("float32", (-(-(size + SCRATCH_ALIGNMENT) // 4),), name in zeroed)
               for name, size in nbytes.items()}

    def bind(addresses: Mapping[str, int], consts: Mapping[str, float]):
        rooms = {name: -(-addresses[name] // SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT
                 for name in scratch}
        calls = [part.bind({**addresses, **rooms}, consts) for part in parts]
        return calls[0] if len(calls) == 1 else partial(_in_order, tuple(calls))

    return Plan(scratch, partial(_aligned, bind, contract, dict(axes), device))


def _in_order(calls: Sequence[Callable[[], object]]) -> None:
    for call in calls:
        call()


def _aligned(bind: Callable, contract: Contract, axes: Mapping[str, int], device,
             addresses: Mapping[str, int], consts: Mapping[str, float]):
    """`bind` on addresses that are multiples of ALIGNMENT: the caller's own, or copies."""
    odd = [t for t in contract.tensors if addresses[t.name] % ALIGNMENT]
    if not odd:
        return bind(addresses, consts)
    places, before, after = dict(addresses), [], []
    for tensor in odd:
        nbytes = DTYPES[device.precision.dtypes[tensor.role]] * product(tensor.shape(axes))
        places[tensor.name] = device.allocate(nbytes)
        there, here = addresses[tensor.name], places[tensor.name]
        if tensor.access != "out":
            before.append(partial(copy, device, here, there, nbytes))
        if tensor.access != "in":
            after.append(partial(copy, device, there, here, nbytes))
    call = partial(_in_order, (*before, bind(places, consts), *after))
    for tensor in odd:  # an exit needs no memory back
        weakref.finalize(call, device.free, places[tensor.name]).atexit = False
    return call


def copy(device, to: int, start: int, nbytes: int) -> None:
    """Puts a copy between two places of the device's memory on its stream."""
    device.driver.memcpy_dtod_async(to, start, nbytes, device.stream)


__all__ = ["ALIGNMENT", "SCRATCH_ALIGNMENT", "Plan", "Renamed", "copy", "imported", "kernel",
           "sequence"]
