"""What a version asks of the device at sizes that a user of GPT-2 may come to: nothing is launched.

Grid, block, shared memory and scratch are expressions. Here they are evaluated with each axis, and
every set of axes, at its largest, the others at GPT-2's own size or at one; wherever `needs` allow
the sizes and the tensors fit on one device, the device has to be able to launch that.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import combinations

from checks.cases import BELOW, consistent
from checks.trial import Fault, Subject
from ported import expressions
from ported.binding import product
from ported.contract import Contract
from ported.device import NotApplicable
from ported.device.geometry import geometry
from ported.source import DTYPES

# Sizes of GPT-2's smallest model; the largest that anybody may ask for.
USUAL = {"B": 8, "T": 1024, "N": 8192, "C": 768, "O": 3072, "H": 12, "D": 64, "V": 50257,
         "Vp": 50304, "Tmax": 1024, "S": 121_000, "E": 1024}
LARGEST = {"B": 1024, "T": 65536, "N": 1 << 26, "C": 262_144, "O": 262_144, "H": 256, "D": 256,
           "V": 262_144, "Vp": 262_144, "Tmax": 65536, "S": 1 << 26, "E": 65536}
MEMORY = 141 << 30  # bytes: of an H200


@cache
def asked(axes: tuple[str, ...], needs: tuple[str, ...] = ()) -> tuple[dict[str, int], ...]:
    """The sizes of these axes: one of them at each power of two, and at the numbers that `needs`
    name; then sets of large ones."""
    named = {int(number) for need in needs for number in re.findall(r"\b\d+\b", need)}
    found: list[dict[str, int]] = [
        {**{name: others[name] for name in axes}, axis: size,
         **({BELOW[axis]: max(size, others[BELOW[axis]])} if BELOW.get(axis) in axes else {})}
        for axis in axes for others in (USUAL, dict.fromkeys(USUAL, 1))
        for size in sorted({1 << power for power in range(LARGEST[axis].bit_length())}
                           | {number for number in named if 0 < number <= LARGEST[axis]})]
    found = [sizes for sizes in found if consistent(sizes)]
    for count in range(1, len(axes) + 1):
        for large in combinations(axes, count):
            for others in (USUAL, dict.fromkeys(USUAL, 1)):
                sizes = {axis: (LARGEST if axis in large else others)[axis] for axis in axes}
                if consistent(sizes) and sizes not in found:
                    found.append(sizes)
    return tuple(found)


def _bytes(contract: Contract, sizes: Mapping[str, int], dtypes: Mapping[str, str]) -> int:
    return sum(product(t.shape(sizes)) * DTYPES[dtypes[t.role]] for t in contract.tensors)


def faults(version, contract: Contract, device, parameters: Mapping[str, int]
           ) -> Iterator[tuple[dict[str, int], str]]:
    """Sizes, and what cannot be launched there."""
    dtypes, limit = device.precision.dtypes, device.values["shared_limit"]
    for sizes in asked(contract.axes, version.needs):
        integers = {**sizes, **parameters, **device.values}
        if version.unmet_needs(integers):
            continue
        scratch = [(part, [expressions.evaluate(axis, integers) for axis in part.axes])
                   for part in version.scratch]
        room = sum(product(shape) * DTYPES[dtypes[part.role]] for part, shape in scratch)
        if _bytes(contract, sizes, dtypes) + room > MEMORY:
            continue
        for part, shape in scratch:
            if min(shape) <= 0:
                yield sizes, f"scratch {part.name} of the shape {shape}; expected sizes from 1"
        for launch in version.launches:
            try:
                found = geometry(version.name, launch, integers)
            except NotApplicable as error:
                yield sizes, str(error)
                continue
            if found.shared > limit:
                yield sizes, (f"launch of {launch.function}: found {found.shared} bytes of shared "
                              f"memory; expected at most {limit}")


def examine(subject: Subject, check: str) -> None:
    """Refuses the first fault of each configuration."""
    if subject.device.language == "c" or subject.version.language == "py":
        return
    for parameters in subject.version.configurations():
        subject.ledger.ran(check)
        for sizes, message in faults(subject.version, subject.contract, subject.device,
                                     parameters):
            shown = ",".join(f"{axis}={size}" for axis, size in sizes.items())
            subject.ledger.refuse(Fault(check, "", f"at {shown} {message}; a line `needs` is "
                                        "missing, or a limit", float("inf"), "", parameters))
            break
