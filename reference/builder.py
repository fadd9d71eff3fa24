"""Writes steps by naming conventions, so that a model reads as its wiring.

An argument that the wiring does not give lies under the step's own name: `h.0.ln_1` has its weight
in `h.0.ln_1.weight`, its output in `h.0.ln_1.out`. A gradient dX lies where `gradient` puts it for
the buffer that X is wired to. So one wiring serves forward and backward. A buffer that a step is
the first to write is declared then, in the contract's role and with the shape that the axes give.
"""

from reference.program import Buffer, Program, ProgramError, Step, View
from reference.shapes import Tensor
from reference.signature import DIRECTIONS, signature, split


def gradient(name: str) -> str:
    """The name of a buffer's gradient: `h.0.ln_1.out` -> `h.0.ln_1.dout`."""
    path, dot, word = name.rpartition(".")
    return f"{path}{dot}d{word}"


class Builder:
    """Collects buffers and makes steps. `consts`: constants by operation, where not the default."""

    def __init__(self, sizes: dict[str, int], consts: dict[str, dict[str, float]]):
        self.program = Program(dict(sizes), {}, {})
        self.consts = consts
        for op, given in consts.items():
            unknown = set(given) - set(signature(op).consts)
            if unknown:
                raise ProgramError(
                    f"constants of {op}: found {', '.join(sorted(unknown))}, "
                    f"expected some of {', '.join(signature(op).consts) or 'none'}"
                )

    def buffer(self, name, role, shape, kind="activation", region=None, offset=0) -> None:
        """Declare a buffer."""
        if name in self.program.buffers:
            raise ProgramError(f"buffer {name}: declared twice")
        self.program.buffers[name] = Buffer(name, role, tuple(shape), kind, region, offset)

    def step(self, op: str, name: str, **wires: str) -> Step:
        """`op` at `name`, wired as the module's docstring says."""
        sig = signature(op)
        _check_wires(op, name, wires)
        args = {argument: View(_wired(name, argument, wires)) for argument in sig.tensors}
        step = Step(op, name, args, {}, {**sig.consts, **self.consts.get(op, {})})
        axes = self.program.axes(step)
        for argument, note in sig.results.items():
            if args[argument].buffer not in self.program.buffers:
                if note.access != "whole":
                    raise ProgramError(
                        f"step {step}: {argument} is a {note.access} output and {args[argument]} "
                        "does not exist; let a step write it before"
                    )
                self.buffer(args[argument].buffer, note.role, _shape(note, axes))
        return step

    def zero(self, name: str) -> Step:
        """A step that clears a declared buffer."""
        return Step("zero", name, {"out": View(name)})


def _wired(name: str, argument: str, wires: dict[str, str]) -> str:
    if argument in wires:
        return wires[argument]
    if argument.startswith("d") and argument[1:] in wires:
        return gradient(wires[argument[1:]])
    return f"{name}.{argument}"


def _check_wires(op: str, name: str, wires: dict[str, str]) -> None:
    """A wire may belong to the operation's other direction, but must belong to one."""
    operation, known = split(op)[0], set()
    for direction in DIRECTIONS:
        try:
            known |= set(signature(f"{operation}_{direction}").tensors)
        except ValueError:  # an operation need not have every direction
            continue
    if set(wires) - known:
        raise ProgramError(
            f"step {op} {name}: found wires {sorted(set(wires) - known)}, "
            f"expected some of {sorted(known)}"
        )


def _shape(note: Tensor, axes: dict[str, int]) -> tuple[int, ...]:
    """Where N rows are a matrix, batch and time are kept apart."""
    shape = note.shape(axes)
    if note.dims[0] == "N" and len(shape) > 1:
        return (axes["B"], axes["T"], *shape[1:])
    return shape
