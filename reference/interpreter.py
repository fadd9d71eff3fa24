"""Runs a program with the explicit functions: slow, in any dtype, and in float64 the truth.

    tensors = allocate(program, torch.float64)
    load(program, stock.state_dict(), tensors)
    tensors["tokens"].copy_(tokens)
    run(program, "forward", tensors)

All functions work on a dict of tensors by buffer name. `compute` is one step as a pure function;
`run` is `compute` and `store` for each step of a pass.
"""

import importlib
from collections.abc import Callable

import torch

from reference import shapes
from reference.program import Program, Step, View
from reference.signature import signature, split

Tensors = dict[str, torch.Tensor]


def allocate(program: Program, dtype: torch.dtype = torch.float64) -> Tensors:
    """A tensor for every buffer; members are views into their region.

    All float roles get `dtype`, I32 int32. Tables hold their values. Activations begin as NaN, so
    that what no step has written shows; all else begins as zero.
    """
    tensors = {}
    for buffer in program.buffers.values():
        if buffer.region is None:
            kind = torch.int32 if buffer.role == "I32" else dtype
            start = torch.nan if buffer.kind == "activation" and buffer.role != "I32" else 0
            tensors[buffer.name] = torch.full(buffer.shape, start, dtype=kind)
    for buffer in program.buffers.values():
        if buffer.region is not None:
            region = tensors[buffer.region].view(-1)
            part = region[buffer.offset : buffer.offset + buffer.size]
            tensors[buffer.name] = part.view(buffer.shape)
    for name, runs in program.tables.items():
        counts = torch.tensor([count for count, _ in runs])
        values = torch.tensor([value for _, value in runs], dtype=dtype)
        tensors[name].copy_(values.repeat_interleave(counts))
    return tensors


def compute(program: Program, step: Step, tensors: Tensors) -> Tensors:
    """What one step computes from the tensors given, by argument name; nothing is stored.

    A `Sum` result is the summand alone. `tensors` needs only the buffers that the step reads.
    """
    if step.op == "zero":
        return {"out": torch.zeros_like(_rows(tensors, step.args["out"]))}
    operation, direction = split(step.op)
    axes = program.axes(step)
    arguments = {}
    for name, note in signature(step.op).arguments.items():
        if note is shapes.Axis:
            arguments[name] = axes[name]
        elif note is shapes.Const:
            arguments[name] = step.consts[name]
        else:
            arguments[name] = _rows(tensors, step.args[name]).reshape(note.shape(axes))
    module = importlib.import_module(f"reference.explicit.{operation}")
    return getattr(module, direction)(**arguments)._asdict()


def store(step: Step, results: Tensors, tensors: Tensors) -> None:
    """Put a step's results where its arguments say: `Sum` results are added, others overwrite."""
    notes = {} if step.op == "zero" else signature(step.op).results
    for name, value in results.items():
        target = _rows(tensors, step.args[name])
        if name in notes and notes[name].access == "sum":
            target += value.reshape(target.shape)
        else:
            target.copy_(value.reshape(target.shape))


def run(
    program: Program,
    name: str,
    tensors: Tensors,
    hook: Callable[[int, Step, Tensors], None] | None = None,
) -> None:
    """Run pass `name` in place. `hook(k, step, results)` is called after step k has been stored,
    with what the step computed (the summand of a `Sum`)."""
    for k, step in enumerate(program.passes[name]):
        results = compute(program, step, tensors)
        store(step, results, tensors)
        if hook:
            hook(k, step, results)


def load(program: Program, state: Tensors, tensors: Tensors) -> None:
    """Copy parameters by name, as of stock `GPT2.state_dict()`; missing rows become zero.

    Fewer rows are the unpadded vocabulary. Raises ValueError that lists every name or shape that
    does not fit.
    """
    members = program.members("parameters")
    faults = [f"{name}: missing" for name in members.keys() - state.keys()]
    faults += [f"{name}: not a parameter of this program" for name in state.keys() - members.keys()]
    for name in members.keys() & state.keys():
        found, expected = tuple(state[name].shape), members[name].shape
        rows = program.sizes["V"] if name == "wte.weight" else expected[0]
        if found not in (expected, (rows, *expected[1:])):
            faults.append(f"{name}: found shape {found}, expected {expected}")
    if faults:
        raise ValueError("cannot load the parameters:\n" + "\n".join(sorted(faults)))
    for name in members:
        tensors[name].zero_()
        tensors[name][: len(state[name])].copy_(state[name])


def export(program: Program, tensors: Tensors, region: str = "parameters") -> Tensors:
    """Copies out of a region (parameters, gradients, m, v) by the parameters' names, padding of the
    vocabulary included: what stock `GPT2.load_state_dict` takes."""
    flat = tensors[region].view(-1)
    return {
        name: flat[buffer.offset : buffer.offset + buffer.size].view(buffer.shape).clone()
        for name, buffer in program.members("parameters").items()
    }


def _rows(tensors: Tensors, view: View) -> torch.Tensor:
    """The tensor of a view, sharing memory with its buffer."""
    tensor = tensors[view.buffer]
    if view.start is None:
        return tensor
    rows = tensor if tensor.dim() == 1 else tensor.view(-1, tensor.shape[-1])
    return rows[view.start : view.stop]
