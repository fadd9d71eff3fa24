"""Walks a program buffer by buffer and names the first that leaves its bound.

*Fed*: each step alone, on the reference's inputs (float64 rounded to the run's dtypes), judged by
the gate. The step that fails here is wrong itself. *Free*: the executor runs on from its own
buffers, as in training, beside the interpreter in float64; the bound of a buffer is how far the
interpreter strays in float32, rounding to bfloat16 what the run stores so. What fails here first is
where a run parts from the truth.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from checks import gate
from checks.runs import Interpreted
from ported.contract import Contract
from ported.evidence import shape_key
from ported.executor import Bound, Executor
from ported.precision import FLOAT32, Precision, rounded
from reference.program import Program, View

UNIT = 2.0**-24
FREE = 8.0  # twice the stray, as the gate allows against stock; four for the chance of one sample
# Operations whose outputs have this axis first and never mix its rows: of large ones the first
# rows, the last and some between are judged, about LARGE elements.
ROWS = {"adamw_update": "S", "head_forward": "N", "linear_forward": "N", "classifier_forward": "N",
        "cross_entropy_forward": "N", "linear_gelu_forward": "N"}
LARGE, EDGE = 1 << 20, 8
FEW = 4  # samples of honest rounding; the propagated spread carries the scale


@dataclass(frozen=True)
class Judged:
    """One output of one step. `ratio`: error over its bound; NaN and above 1 are refused."""

    mode: str
    bound: Bound
    argument: str
    ratio: float
    message: str = ""

    @property
    def accepted(self) -> bool:
        return not self.message and self.ratio <= 1

    @property
    def operation(self) -> str:
        return self.bound.step.op

    def __str__(self) -> str:
        view = self.bound.step.args[self.argument]
        return (f"{self.mode}: pass {self.bound.place[0]}, step {self.bound.place[1]}, "
                f"{self.operation} {self.bound.step.name}, kernel {self.bound.version}, buffer "
                f"{view}: {self.message or f'{self.ratio:.3g} of its bound'}")


def rows(program: Program, whole: np.ndarray, view: View) -> np.ndarray:
    """The part of a buffer's array that a view names, sharing its memory."""
    if view.start is None:
        return whole
    return whole.reshape(program.buffers[view.buffer].rows)[view.start : view.stop]


def outputs_of(bound: Bound) -> list[str]:
    return [t.name for t in bound.contract.outputs] if bound.contract else ["out"]


def passes_of(program: Program) -> list[str]:
    """The passes of a training step in order, then those that go forward only."""
    order = ("zero", "forward", "backward", "norm", "update", "evaluate", "sample")
    return [name for name in order if name in program.passes]


def accumulated(runner: Interpreted | Executor) -> None:
    """Gradients as an earlier micro-batch leaves them, of the moments' size: a kernel that should
    add to them, and does not, shows."""
    runner.write("gradients", runner.read("m"))


def fed(executor: Executor, state: Mapping[str, np.ndarray], every: bool = True,
        only: str | None = None) -> Iterator[Judged]:
    """Every step on the reference's inputs; with `every` off, one step of each kernel and shape.

    `state`: what parameters, moments, inputs and numbers hold before the step of training. `only`:
    the one operation to judge.
    """
    reference, seen = _reference(executor.program, state), set()
    for name in passes_of(executor.program):
        if name == "forward":
            accumulated(reference)
        for k, bound in enumerate(executor.steps(name)):
            key = shape_key(bound.step.op, bound.axes or {})
            if only not in (None, bound.step.op):
                pass
            elif bound.contract and (every or key not in seen):
                seen.add(key)
                yield from _alone(executor, reference, name, k, bound)
            elif not bound.contract and every:
                yield from _cleared(executor, name, k, bound)
            reference.step(bound.step)


def _reference(program: Program, state: Mapping[str, np.ndarray],
               dtype: torch.dtype = torch.float64, precision: Precision = FLOAT32) -> Interpreted:
    found = Interpreted(program, dtype, precision)
    filled(found, state)
    return found


def filled(runner: Interpreted | Executor, state: Mapping[str, np.ndarray]) -> None:
    """The state in a runner's buffers; parameters in their masters too."""
    for name, value in state.items():
        for each in {name, f"{name}.master"} & runner.program.buffers.keys():
            runner.write(each, value)


def _alone(executor: Executor, reference: Interpreted, name: str, k: int,
           bound: Bound) -> Iterator[Judged]:
    program, contract = executor.program, bound.contract
    given: dict[str, np.ndarray] = {}
    executor.ruin()  # a step must not live on what another left behind
    # Outputs are spoilt first: one may lie on an input.
    for tensor in sorted(contract.tensors, key=lambda tensor: tensor.access != "out"):
        view = bound.step.args[tensor.name]
        whole = reference.tensors[view.buffer].numpy()
        narrow = rounded(rows(program, whole, view), executor.device.precision.dtypes[tensor.role])
        narrow = np.array(narrow)
        if tensor.access == "out":
            narrow[...] = np.nan
        _put(executor, view, narrow)
        given[tensor.name] = narrow.reshape(tensor.shape(bound.axes))
    executor.run_step(name, k)
    yield from _judged(executor, contract, bound, given)
    yield from _frozen(executor, contract, bound, given)


def _put(executor: Executor, view: View, array: np.ndarray) -> None:
    whole = executor.read(view.buffer)
    rows(executor.program, whole, view)[...] = array
    executor.write(view.buffer, whole)


def _judged(executor: Executor, contract: Contract, bound: Bound,
            given: Mapping[str, np.ndarray]) -> Iterator[Judged]:
    picked = _picked(contract, bound)

    def part(name: str, array: np.ndarray) -> np.ndarray:
        rowwise = contract.by_name[name].axes[0] == ROWS.get(contract.name)
        return array[picked] if rowwise and picked is not None else array

    inputs = {tensor.name: part(tensor.name, given[tensor.name]) for tensor in contract.inputs}
    inputs |= {name: bound.axes[name] for name in contract.axis_arguments} | bound.step.consts
    with np.errstate(all="ignore"):
        truth = gate.truth_of(contract, inputs, samples=FEW, precision=executor.device.precision)
        for tensor in contract.outputs:
            view = bound.step.args[tensor.name]
            got = rows(executor.program, executor.read(view.buffer), view)
            got = part(tensor.name, got.reshape(tensor.shape(bound.axes)))
            start = given[tensor.name] if tensor.access == "sum" else None
            findings, ratio = gate.judge(truth, tensor.name, got, start=start)
            message = f"{findings[0].check}: {findings[0].message}" if findings else ""
            yield Judged("fed", bound, tensor.name, ratio, message)


def _frozen(executor: Executor, contract: Contract, bound: Bound,
            given: Mapping[str, np.ndarray]) -> Iterator[Judged]:
    """Inputs that the step has changed, of those that no output may lie on."""
    covered = {bound.step.args[tensor.name].buffer for tensor in contract.outputs}
    covered |= {bound.step.args[name].buffer for name in bound.choice.version.inplace.values()}
    for tensor in contract.inputs:
        view = bound.step.args[tensor.name]
        if view.buffer not in covered:
            left = rows(executor.program, executor.read(view.buffer), view)
            changed = left.tobytes() != given[tensor.name].tobytes()
            if changed:
                yield Judged("fed", bound, tensor.name, float("inf"), "the step changed its input")


def _picked(contract: Contract, bound: Bound) -> np.ndarray | None:
    """Rows to judge of a large operation that takes them one by one; None for all."""
    axis = ROWS.get(contract.name)
    if axis is None:
        return None
    count = bound.axes[axis]
    width = max(prod(t.shape(bound.axes)) // count for t in contract.tensors if t.axes[0] == axis)
    keep = max(4 * EDGE, LARGE // width)
    if keep >= count:
        return None
    between = np.random.default_rng(0).permutation(count - 2 * EDGE)[: keep - 2 * EDGE] + EDGE
    return np.sort(np.concatenate([np.arange(EDGE), between, np.arange(count - EDGE, count)]))


def _cleared(executor: Executor, name: str, k: int, bound: Bound) -> Iterator[Judged]:
    executor.run_step(name, k)
    view = bound.step.args["out"]
    left = np.count_nonzero(rows(executor.program, executor.read(view.buffer), view))
    yield Judged("fed", bound, "out", float(left), f"{left} elements are not zero" if left else "")


def free(executor: Executor, state: Mapping[str, np.ndarray]) -> Iterator[Judged]:
    """One step of training on the executor's own buffers, beside the interpreter's two."""
    program = executor.program
    truth = _reference(program, state)
    narrow = _reference(program, state, torch.float32, executor.device.precision)
    filled(executor, state)
    for name in passes_of(program):
        if name == "forward":
            for each in (truth, narrow, executor):
                accumulated(each)
        executor.enter(name)
        for k, bound in enumerate(executor.steps(name)):
            executor.run_step(name, k)
            for each in (truth, narrow):
                each.step(bound.step)
            for argument in outputs_of(bound):
                yield _strayed(executor, truth, narrow, bound, argument)


def _strayed(executor: Executor, truth: Interpreted, narrow: Interpreted, bound: Bound,
             argument: str) -> Judged:
    view = bound.step.args[argument]
    value, stray, got = (
        rows(executor.program, whole, view).astype(np.float64) for whole in
        (truth.read(view.buffer), narrow.read(view.buffer), executor.read(view.buffer)))
    norm = np.linalg.norm(value)
    error, allowed = np.linalg.norm(got - value), np.linalg.norm(stray - value) + UNIT * norm
    if error == 0:
        return Judged("free", bound, argument, 0.0)
    ratio = float(error / (FREE * allowed)) if allowed else float("inf")
    message = "" if ratio <= 1 else (
        f"found a relative L2 error of {error / (norm or 1):.3g}, expected at most "
        f"{FREE * allowed / (norm or 1):.3g}")
    return Judged("free", bound, argument, ratio, message)
