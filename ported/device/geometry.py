"""How large a launch is: the directives' grid, block, shared and cluster in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

from ported import expressions
from ported.device import NotApplicable
from ported.directives import Launch

GRID = 2**31 - 1  # blocks; CUDA C++ Programming Guide, compute capabilities
THREADS = 1024  # of a block


@dataclass(frozen=True)
class Geometry:
    """Blocks of the grid, threads of a block, bytes of dynamic shared memory, blocks of a
    cluster."""

    grid: int
    block: int
    shared: int = 0
    cluster: int = 1

    def __str__(self) -> str:
        words = [f"{self.grid} blocks of {self.block} threads"]
        words += [f"{self.shared} bytes of shared memory"] if self.shared else []
        words += [f"clusters of {self.cluster}"] if self.cluster != 1 else []
        return ", ".join(words)


def geometry(where: str, launch: Launch, integers: Mapping[str, int]) -> Geometry:
    """The launch in numbers. NotApplicable names the one that CUDA cannot launch."""
    found = Geometry(**{word: int(expressions.evaluate(getattr(launch, word), integers))
                        for word in ("grid", "block", "shared", "cluster")})
    if not 1 <= found.grid <= GRID:
        fault = f"a grid of {found.grid} blocks; expected 1 to {GRID}"
    elif not 1 <= found.block <= THREADS:
        fault = f"{found.block} threads a block; expected 1 to {THREADS}"
    elif found.shared < 0:
        fault = f"{found.shared} bytes of shared memory; expected 0 or more"
    elif found.cluster < 1 or found.grid % found.cluster:
        fault = f"a grid of {found.grid} blocks in clusters of {found.cluster}; expected a multiple"
    else:
        return found
    raise NotApplicable(f"{where}, launch of {launch.function}: found {fault}")


__all__ = ["Geometry", "geometry"]
