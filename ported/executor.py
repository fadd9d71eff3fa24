"""Binds each step of a program to a kernel on a device, in planned memory, and replays the lists.

    executor = Executor(program, device, kernels)      # loads, plans, allocates, packs every call
    executor.write("tokens", tokens)
    executor.run("forward")
    loss = executor.read("losses").mean()

Pointers never change after construction, so a pass is a list of calls that take no arguments.
Between passes of training `evaluate` and `sample` may run, but they overwrite activations: never
between forward and backward.
"""

import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from ported import binding, contract, memory
from ported.contract import Contract
from ported.device import Device
from ported.evidence import Choice, shape_key
from ported.precision import decode, encode
from ported.source import DTYPES
from reference.program import Program, Step


class ExecutorError(ValueError):
    """A step that cannot be bound or that failed: names pass, step, kernel and buffers."""


@dataclass(frozen=True)
class Bound:
    """A step with its kernel at its axes; `choice` and `contract` are None for `zero`."""

    place: memory.Place
    step: Step
    contract: Contract | None = None
    axes: Mapping[str, int] | None = None
    choice: Choice | None = None

    @property
    def version(self) -> str:
        return self.choice.version.name if self.choice else "fill"

    def __str__(self) -> str:
        args = ", ".join(f"{name}={view}" for name, view in self.step.args.items())
        return f"pass {self.place[0]}, step {self.place[1]} ({self.step}; {args})"


def contracts_of(program: Program) -> dict[str, Contract]:
    """The contract of every operation that a program's steps name."""
    names = {step.op for steps in program.passes.values() for step in steps}
    return {name: contract.of(name) for name in sorted(names - {"zero"})}


def axes_of(program: Program, step: Step, contracts: Mapping[str, Contract]) -> dict[str, int]:
    """The axes of a step's contract in numbers."""
    shapes = {name: program.shape(view) for name, view in step.args.items()}
    return binding.axes_of(contracts[step.op], shapes, {**program.sizes, **step.axes})


def wanted(program: Program, contracts: Mapping[str, Contract]) -> dict[str, tuple]:
    """What a program needs kernels for: `shape_key` -> (contract name, axes, consts)."""
    found = {}
    for steps in program.passes.values():
        for step in steps:
            if step.op != "zero":
                axes = axes_of(program, step, contracts)
                found.setdefault(shape_key(step.op, axes), (step.op, axes, step.consts))
    return found


class Executor:
    """A program on a device. `kernels` maps a contract's name, or a `shape_key`, to a Choice.

    `poison` fills the transient part with NaN before each pass that takes nothing over from an
    earlier one: no result may change. `plan` is the memory plan, `kernels` the choice by shape key.
    Raises ExecutorError that lists every step without a kernel or with one that does not fit, and
    PlanError before anything is allocated.
    """

    def __init__(self, program: Program, device: Device, kernels: Mapping[str, Choice],
                 contracts: Mapping[str, Contract] | None = None, *, poison: bool = False):
        self.program, self.device, self.poison = program, device, poison
        self.contracts = contracts_of(program) if contracts is None else contracts
        self._bound = self._choose(kernels)
        self.kernels = {shape_key(b.step.op, b.axes): b.choice
                        for bounds in self._bound.values() for b in bounds if b.choice}
        loaded = self._load()
        scratch = {at: {part: DTYPES[dtype] * binding.product(shape)
                        for part, (dtype, shape, _) in kernel.scratch.items()}
                   for at, kernel in loaded.items() if kernel.scratch}
        inplace = {b.place: b.choice.version.inplace for bounds in self._bound.values()
                   for b in bounds if b.choice and b.choice.version.inplace}
        self.plan = memory.plan(program, scratch=scratch, inplace=inplace,
                                roles=device.precision.dtypes,
                                available=device.available())
        self._base = device.allocate(self.plan.nbytes)
        self._free = weakref.finalize(self, device.free, self._base)
        self._calls = {name: [self._call(bound, loaded) for bound in bounds]
                       for name, bounds in self._bound.items()}
        self._fresh = {name for name in program.passes if not self.plan.live_into(name)}
        for name, runs in program.tables.items():
            counts, values = zip(*runs, strict=True)
            self.write(name, np.repeat(np.array(values), counts))

    def _choose(self, kernels: Mapping[str, Choice]) -> dict[str, list[Bound]]:
        """Every step with its choice: by shape key first, then by the contract's name."""
        faults, found = [], {}
        for name, steps in self.program.passes.items():
            found[name] = []
            for k, step in enumerate(steps):
                if step.op == "zero":
                    found[name].append(Bound((name, k), step))
                    continue
                axes = axes_of(self.program, step, self.contracts)
                choice = kernels.get(shape_key(step.op, axes)) or kernels.get(step.op)
                bound = Bound((name, k), step, self.contracts[step.op], axes, choice)
                found[name].append(bound)
                if choice is None:
                    faults.append(f"{bound}: no kernel for {shape_key(step.op, axes)}")
        if faults:
            raise ExecutorError("found steps without a kernel:\n  " + "\n  ".join(faults)
                                + f"\nexpected one; given: {', '.join(sorted(kernels)) or 'none'}")
        return found

    def _load(self) -> dict:
        """The loaded kernel of every place; equal ones are loaded once."""
        unique, loaded, faults = {}, {}, {}
        for bounds in self._bound.values():
            for bound in bounds:
                if bound.choice is None:
                    continue
                key = shape_key(bound.step.op, bound.axes)
                try:
                    if key not in unique:
                        unique[key] = self.device.load(bound.choice.version, bound.contract,
                                                       bound.axes, bound.choice.parameters)
                    loaded[bound.place] = unique[key]
                except ValueError as error:
                    faults.setdefault(key, f"{bound}, kernel {bound.version}: {error}")
        if faults:
            raise ExecutorError("found kernels that do not fit their steps:\n  "
                                + "\n  ".join(faults.values()))
        return loaded

    def _call(self, bound: Bound, loaded: Mapping) -> Callable[[], object]:
        step = bound.step
        if bound.choice is None:
            address, nbytes = self._span(step.args["out"])
            return partial(self.device.fill, address, nbytes, 0)
        addresses = {name: self._span(view)[0] for name, view in step.args.items()}
        for part, offset in self.plan.scratch.get(bound.place, {}).items():
            addresses[part] = self._base + offset
        return loaded[bound.place].bind(addresses, step.consts)

    def _span(self, view) -> tuple[int, int]:
        """Address and bytes of a view."""
        start, nbytes = self.address(view.buffer), self.plan.nbytes_of[view.buffer]
        if view.start is None:
            return start, nbytes
        row = nbytes // self.program.buffers[view.buffer].rows[0]
        return start + row * view.start, row * (view.stop - view.start)

    def address(self, name: str) -> int:
        """Where a buffer lies, in bytes. Raises ExecutorError for one that has no place."""
        if name not in self.plan.offsets:
            known = ", ".join(sorted(self.plan.offsets))
            raise ExecutorError(f"found no buffer '{name}'; the plan has {known}")
        return self._base + self.plan.offsets[name]

    def _form(self, name: str) -> tuple[tuple[int, ...], str]:
        buffer = self.program.buffers[name]
        return buffer.shape, self.device.precision.dtypes[buffer.role]

    def buffer(self, name: str) -> np.ndarray:
        """The buffer's memory itself, as it lies there; for devices whose memory the host sees."""
        return self.device.array(self.address(name), *self._form(name))

    def read(self, name: str) -> np.ndarray:
        """A copy of a buffer; bfloat16 as the float32 numbers that it holds."""
        address, (shape, dtype) = self.address(name), self._form(name)
        return decode(self.device.read(address, shape, dtype), dtype)

    def write(self, name: str, array) -> None:
        """Fills a buffer; ExecutorError where `array` has another number of elements."""
        shape, dtype = self._form(name)
        array = np.asarray(array)
        if array.size != binding.product(shape):
            raise ExecutorError(f"write {name}: found shape {array.shape}, expected {shape}")
        self.device.write(self.address(name), encode(array, dtype))

    def steps(self, name: str) -> list[Bound]:
        """The steps of a pass, each with its kernel."""
        return list(self._bound[name])

    def ruin(self) -> None:
        """NaN in every activation and all scratch: the whole transient part."""
        self.device.fill(self._base + self.plan.permanent, self.plan.transient, 0xFF)

    def enter(self, name: str) -> None:
        """What `run` does before the first step: ruins a poisoned part that nothing is kept in."""
        if self.poison and name in self._fresh:
            self.ruin()

    def run(self, name: str) -> None:
        """Replays a pass. Returns when the device has done it."""
        if self.poison:
            self.enter(name)
        k = -1
        try:
            for k, call in enumerate(self._calls[name]):  # noqa: B007
                call()
            self.device.synchronize()
        except Exception as error:
            raise self._failed(name, k, error) from error

    def _failed(self, name: str, k: int, error: Exception) -> ExecutorError:
        if name not in self._calls:
            return ExecutorError(f"found no pass '{name}', expected {', '.join(self._calls)}")
        bound = self._bound[name][k]
        return ExecutorError(f"{bound}, kernel {bound.version}: {error}")

    def run_step(self, name: str, k: int) -> None:
        """Step `k` of a pass alone, on whatever its buffers hold."""
        try:
            self._calls[name][k]()
            self.device.synchronize()
        except Exception as error:
            raise self._failed(name, k, error) from error

    def run_steps(self, name: str, after: Callable[[int, Bound], None],
                  before: Callable[[int, Bound], None] | None = None) -> None:
        """A pass step by step, with a call before and after each one."""
        self.enter(name)
        for k, bound in enumerate(self._bound[name]):
            if before:
                before(k, bound)
            self.run_step(name, k)
            after(k, bound)

    def profile(self, name: str) -> list[tuple[str, str, float]]:
        """Runs a pass and times each step: (step, version, seconds)."""
        self.enter(name)
        found = []
        for bound, call in zip(self._bound[name], self._calls[name], strict=True):
            start = time.perf_counter()
            call()
            self.device.synchronize()
            found.append((bound.step.name, bound.version, time.perf_counter() - start))
        return found

    def close(self) -> None:
        """Gives the memory back; arrays from `buffer` stay valid, the executor does not."""
        self._calls = dict.fromkeys(self._calls, ())
        self._free()
