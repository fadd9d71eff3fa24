"""A model as data: named buffers, and lists of steps that name them.

A `Step` is an operation of `reference/explicit` with a buffer, or rows of one, for each of its
tensors. A `Program` holds every buffer with role and shape and, for each pass, the steps in order.
Nothing is computed here. The interpreter runs a program with the explicit functions, an executor
with kernels; a memory planner reads off when each buffer lives; a rewrite returns another program.

Passes: `zero` clears the gradients; `forward`, `backward` and `update` are training, in this order;
`evaluate` and `sample` go forward only and stand alone. Numbers in a program are concrete.
"""

from dataclasses import dataclass, field
from math import prod

from reference.signature import signature

KINDS = ("parameter", "gradient", "state", "input", "dyn", "table", "activation")
ROLES = ("F", "R", "P", "G", "F32", "I32")
TRAINING = ("zero", "forward", "backward", "update")


class ProgramError(ValueError):
    """A program that contradicts itself or a contract; every fault is listed."""


@dataclass(frozen=True)
class Buffer:
    """A named tensor. A member of a region lies in the buffer of that name, `offset` elements in.

    Kinds: parameter, gradient (of a parameter), state (optimizer), input, dyn (one element, changes
    from step to step), table (constant over a run), activation (whatever steps compute, gradients
    of activations included: lives from its first writer to its last reader).
    """

    name: str
    role: str
    shape: tuple[int, ...]
    kind: str
    region: str | None = None
    offset: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def rows(self) -> tuple[int, ...]:
        """The shape with leading axes merged to rows; a vector's rows are its elements."""
        return self.shape if len(self.shape) == 1 else (prod(self.shape[:-1]), self.shape[-1])


@dataclass(frozen=True)
class View:
    """Rows `start` to `stop` of a buffer (see `Buffer.rows`), or all of it in its own shape."""

    buffer: str
    start: int | None = None
    stop: int | None = None

    def __str__(self) -> str:
        return self.buffer if self.start is None else f"{self.buffer}[{self.start}:{self.stop}]"


@dataclass(frozen=True)
class Step:
    """One operation, as `layernorm_forward`, with a view for each tensor of its contract.

    `axes` goes before `Program.sizes` where no shape shows an axis. Operation `zero` clears `out`.
    """

    op: str
    name: str
    args: dict[str, View]
    axes: dict[str, int] = field(default_factory=dict)
    consts: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.op} {self.name}"

    def reads(self) -> list[View]:
        """Views whose content matters: inputs, and outputs that are added to."""
        if self.op == "zero":
            return []
        sig = signature(self.op)
        summed = [name for name, note in sig.results.items() if note.access == "sum"]
        return [self.args[name] for name in [*sig.inputs, *summed]]

    def writes(self) -> list[View]:
        """Views that hold something new afterwards."""
        results = ["out"] if self.op == "zero" else signature(self.op).results
        return [self.args[name] for name in results]


@dataclass
class Program:
    """Buffers by name and steps by pass; see the module's docstring.

    `tables` gives the content of table buffers as runs of (count, value). `results` names, for each
    pass, the buffers that are read from outside when it has run.
    """

    sizes: dict[str, int]
    buffers: dict[str, Buffer]
    passes: dict[str, list[Step]]
    tables: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    results: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def members(self, region: str) -> dict[str, Buffer]:
        """The buffers that lie in a region, by name, in order of their offsets."""
        found = [buffer for buffer in self.buffers.values() if buffer.region == region]
        return {buffer.name: buffer for buffer in sorted(found, key=lambda b: b.offset)}

    def shape(self, view: View) -> tuple[int, ...]:
        """A view's shape. Raises ProgramError for an unknown buffer or rows beyond its end."""
        buffer = self.buffers.get(view.buffer)
        if buffer is None:
            raise ProgramError(f"found buffer {view.buffer}, which the program does not have")
        if view.start is None:
            return buffer.shape
        if not 0 <= view.start < view.stop <= buffer.rows[0]:
            raise ProgramError(f"found {view}, expected rows within 0:{buffer.rows[0]}")
        return (view.stop - view.start, *buffer.rows[1:])

    def axes(self, step: Step) -> dict[str, int]:
        """Every axis of a step in numbers. Raises ProgramError where two tensors disagree.

        A tensor of the contract's rank binds axis by axis; of more, its leading axes merge; of
        fewer, only its number of elements is checked. What no shape shows comes from `step.axes`,
        then from `sizes`. A buffer that is not declared (yet) shows nothing.
        """
        axes, where = dict(step.axes), dict.fromkeys(step.axes, "the step")
        for name, note in signature(step.op).tensors.items():
            declared = step.args[name].buffer in self.buffers
            shape, rank = self.shape(step.args[name]) if declared else (), len(note.dims)
            if len(shape) < rank:
                continue
            merged = (prod(shape[: len(shape) - rank + 1]), *shape[len(shape) - rank + 1 :])
            for dim, size in zip(note.dims, merged, strict=True):
                if dim.isidentifier() and axes.setdefault(dim, size) != size:
                    raise ProgramError(
                        f"axis {dim} is {size} in {name} ({step.args[name]} {shape}) "
                        f"but {axes[dim]} in {where[dim]}"
                    )
                where.setdefault(dim, f"{name} ({step.args[name]})")
        return {**self.sizes, **axes}

    def validate(self) -> "Program":
        """The program itself if it is sound; else ProgramError with every fault and its place."""
        faults = [*_buffer_faults(self), *_step_faults(self)]
        faults = faults or _order_faults(self)
        if faults:
            raise ProgramError("\n".join(faults))
        return self


def _buffer_faults(program: Program):
    ends: dict[str, tuple[int, str]] = {}
    for buffer in sorted(program.buffers.values(), key=lambda b: b.offset):
        if buffer.kind not in KINDS or buffer.role not in ROLES or min(buffer.shape) < 1:
            yield f"buffer {buffer.name}: found {buffer}, expected kinds {KINDS}, roles {ROLES}"
        region = program.buffers.get(buffer.region)
        if buffer.region is not None and region is None:
            yield f"buffer {buffer.name}: found region {buffer.region}, expected a buffer's name"
        if region is not None:
            end, before = ends.get(region.name, (0, "the region's start"))
            if buffer.offset < end or buffer.offset + buffer.size > region.size:
                yield (
                    f"buffer {buffer.name}: found elements {buffer.offset} to "
                    f"{buffer.offset + buffer.size} of {region.name}, expected them after {before} "
                    f"({end}) and within {region.size}"
                )
            ends[region.name] = buffer.offset + buffer.size, buffer.name
    for name, runs in program.tables.items():
        table = program.buffers.get(name)
        found = sum(count for count, _ in runs)
        if table is None or found != table.size:
            yield f"table {name}: found {found} values, expected {table and table.size}"


def _step_faults(program: Program):
    for name, steps in program.passes.items():
        for step in steps:
            try:
                _check_step(program, step)
            except ValueError as error:
                yield f"pass {name}, step {step}: {error}"


def _check_step(program: Program, step: Step):
    if step.op == "zero":
        program.shape(step.args["out"])
        return
    sig = signature(step.op)
    for what, found, expected in (
        ("arguments", set(step.args), set(sig.tensors)),
        ("constants", set(step.consts), set(sig.consts)),
    ):
        if found != expected:
            raise ProgramError(f"found {what} {sorted(found)}, expected {sorted(expected)}")
    axes = program.axes(step)
    for name, note in sig.tensors.items():
        view, shape = step.args[name], note.shape(axes)
        if prod(program.shape(view)) != prod(shape):
            raise ProgramError(
                f"{name} is {view} of shape {program.shape(view)}, "
                f'expected {note.role}["{note.axes}"] = {shape}'
            )
        if not _same_role(program.buffers[view.buffer].role, note.role):
            role = program.buffers[view.buffer].role
            raise ProgramError(f"{name} is {view} of role {role}, expected role {note.role}")


def _same_role(found: str, expected: str) -> bool:
    # A shared residual gradient is both F and R; that their dtypes agree is known only at run time.
    return found == expected or {found, expected} == {"F", "R"}


def _order_faults(program: Program):
    given = {b.name for b in program.buffers.values() if b.kind != "activation"}
    training = [name for name in TRAINING if name in program.passes]
    faults = []
    for sequence in [training, *([name] for name in program.passes if name not in TRAINING)]:
        written = set(given)
        for name in sequence:
            for step in program.passes[name]:
                missing = ", ".join(sorted({view.buffer for view in step.reads()} - written))
                if missing:
                    faults.append(f"pass {name}, step {step}: reads {missing}, not yet written")
                written |= {view.buffer for view in step.writes()}
            unwritten = set(program.results.get(name, ())) - written
            if unwritten:
                faults.append(f"pass {name}: its results {sorted(unwritten)} are never written")
    return faults
