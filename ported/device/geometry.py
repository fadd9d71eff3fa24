"""How large a launch is: the directives' grid, block, shared and cluster in numbers.

A size is one expression, or several with commas between them for the axes x, y, z:
`grid ceil_div(N, block), H`.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass

from ported import expressions
from ported.device import NotApplicable
from ported.directives import Launch

GRID = (2**31 - 1, 65535, 65535)  # CUDA C++ Programming Guide, compute capabilities
BLOCK = (1024, 1024, 64)
THREADS = 1024


@dataclass(frozen=True)
class Geometry:
    """Blocks, threads and blocks of a cluster along x, y, z; bytes of dynamic shared memory."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int = 0
    cluster: tuple[int, int, int] = (1, 1, 1)

    @property
    def clustered(self) -> bool:
        return self.cluster != (1, 1, 1)

    def __str__(self) -> str:
        words = [f"grid {_shown(self.grid)}", f"block {_shown(self.block)}"]
        words += [f"{self.shared} bytes of shared memory"] if self.shared else []
        words += [f"cluster {_shown(self.cluster)}"] if self.clustered else []
        return ", ".join(words)


def _shown(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


def sizes(text: str, integers: Mapping[str, int]) -> tuple[int, int, int]:
    """One to three expressions as x, y, z; those left out are 1."""
    tree = expressions.parse(text)
    parts = [ast.unparse(part) for part in tree.elts] if isinstance(tree, ast.Tuple) else [text]
    found = [int(expressions.evaluate(part, integers)) for part in parts]
    if len(found) > 3:
        raise expressions.ExpressionError(f"'{text}' has {len(found)} sizes; expected x, y, z")
    return tuple(found + [1] * (3 - len(found)))


def geometry(where: str, launch: Launch, integers: Mapping[str, int]) -> Geometry:
    """The launch in numbers. NotApplicable names the size that CUDA cannot launch."""
    found = Geometry(sizes(launch.grid, integers), sizes(launch.block, integers),
                     int(expressions.evaluate(launch.shared, integers)),
                     sizes(launch.cluster, integers))
    wrong = [f"{word} {_shown(counts)} (allowed: 1 to {_shown(most)})"
             for word, counts, most in (("grid", found.grid, GRID), ("block", found.block, BLOCK))
             if not all(1 <= count <= top for count, top in zip(counts, most, strict=True))]
    threads = found.block[0] * found.block[1] * found.block[2]
    if threads > THREADS:
        wrong.append(f"{threads} threads a block (allowed: {THREADS})")
    wrong += [f"grid {_shown(found.grid)} in clusters of {_shown(found.cluster)} (no multiple)"
              for ok in [all(c >= 1 and g % c == 0
                             for g, c in zip(found.grid, found.cluster, strict=True))] if not ok]
    if wrong:
        raise NotApplicable(f"{where}, launch of {launch.function}: found " + "; ".join(wrong))
    return found


__all__ = ["Geometry", "geometry", "sizes"]
