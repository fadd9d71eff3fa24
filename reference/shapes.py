"""Shapes as annotations: what a signature in `reference/explicit` says about its tensors.

    def forward(inp: R["N C"], weight: P["C"], eps: Const = 1e-5) -> Forward

reads: `inp` has the residual stream's dtype and N rows of C channels, `weight` is a parameter of C
elements, `eps` goes by value. Axes in one string are separated by blanks and may be products,
`F["B T 3*H*D"]`. Axis names and roles are explained once, in `reference/__init__.py`.

    F R P G F32 I32   roles: `role["axes"]` is a tensor
    Sum[G, "C"]       an output added to what stands there; explicit functions return the summand
    InOut[P, "S E"]   read and overwritten; explicit functions return the new value
    Const             a number by value, fixed for the run
    Dyn, Dyn[I32]     a number that changes from step to step: a one-element buffer, F32 unless said
    Axis              a size that no input's shape shows (a python int)

No torch here. The annotations are small values, so they may be read as syntax or at run time.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tensor:
    """What an annotation says: role name, axes as written, and how an output meets memory."""

    role: str
    axes: str
    access: str = "whole"  # whole: overwritten; sum: added to; inout: read, overwritten; dyn

    @property
    def dims(self) -> list[str]:
        """The axes one by one: `["B", "T", "3*H*D"]`."""
        return self.axes.split()

    def shape(self, sizes: dict[str, int]) -> tuple[int, ...]:
        """The axes in numbers: `(2, 8, 96)` where sizes has B, T, H and D."""
        return tuple(sizes[dim] if dim in sizes else eval(dim, {"__builtins__": {}}, sizes)
                     for dim in self.dims)


@dataclass(frozen=True)
class Role:
    """A dtype by purpose; `role["N C"]` annotates a tensor of it."""

    name: str

    def __getitem__(self, axes: str) -> Tensor:
        return Tensor(self.name, axes)


class _Access:
    """`Sum` and `InOut`: subscripted with a role and axes."""

    def __init__(self, access: str):
        self.access = access

    def __getitem__(self, item: tuple[Role, str]) -> Tensor:
        role, axes = item
        return Tensor(role.name, axes, self.access)


class _Dyn(Tensor):
    """`Dyn` and `Dyn[I32]`: one element that changes from step to step."""

    def __getitem__(self, role: Role) -> Tensor:
        return Tensor(role.name, "1", "dyn")


class Const:
    """A number by value, fixed for the run."""


class Axis:
    """A size that no input's shape shows."""


F, R, P, G, F32, I32 = map(Role, ("F", "R", "P", "G", "F32", "I32"))
Sum = _Access("sum")
InOut = _Access("inout")
Dyn = _Dyn("F32", "1", "dyn")
