"""Binds each step of a program to a kernel on a device, in planned memory, and replays the lists.

    executor = Executor(program, device, kernels)      # loads, plans, allocates, packs every call
    executor.write("tokens", tokens)
    executor.run("forward")
    loss = executor.read("losses").mean()

Pointers never change after construction, so a pass is a list of calls that take no arguments, and
the device makes one call of it (`replay`: on cuda a captured graph, elsewhere the calls in order).
Between passes of training `evaluate` and `sample` may run, but they overwrite activations: never
between forward and backward.
"""

import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from ported import binding, contract, memory
from ported.contract import Contract
from ported.device import Device, DeviceError
from ported.evidence import Choice, shape_key
from ported.precision import decode, encode
from ported.source import DTYPES
from ported.stages import stage
from reference.program import Program, Step, View


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
    return {name: _contract(name) for name in sorted(names - {"zero"})}


@cache
def _contract(name: str) -> Contract:
    return contract.of(name)


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
    earlier one: no result may change. `plain` waits for the device after every single step, so
    that a fault names its step. `plan` is the memory plan, `kernels` the choice by shape key.
    Raises ExecutorError that lists every step without a kernel or with one that does not fit, and
    PlanError where the memory does not suffice.
    """

    def __init__(self, program: Program, device: Device, kernels: Mapping[str, Choice],
                 contracts: Mapping[str, Contract] | None = None, *, poison: bool = False,
                 plain: bool = False):
        self.program, self.device, self.poison, self.plain = program, device, poison, plain
        if plain and hasattr(device, "trace"):
            device.trace(True)
        self.contracts = contracts_of(program) if contracts is None else contracts
        self._bound = self._choose(kernels)
        self.kernels = {shape_key(b.step.op, b.axes): b.choice
                        for bounds in self._bound.values() for b in bounds if b.choice}
        with stage("loading kernels"):
            loaded = self._load()
        scratch = {at: {part: DTYPES[dtype] * binding.product(shape)
                        for part, (dtype, shape, _) in kernel.scratch.items()}
                   for at, kernel in loaded.items() if kernel.scratch}
        inplace = {b.place: b.choice.version.inplace for bounds in self._bound.values()
                   for b in bounds if b.choice and b.choice.version.inplace}
        with stage("memory plan"):
            self.plan = memory.plan(program, scratch=scratch, inplace=inplace,
                                    roles=device.precision.dtypes,
                                    available=device.available())
        with stage("allocation"):
            self._base = self._allocated()
        self._free = weakref.finalize(self, device.free, self._base)
        with stage("packing calls"):
            self._calls = {name: [self._named(bound, self._call(bound, loaded)) for bound in bounds]
                           for name, bounds in self._bound.items()}
        self._replays: dict[str, Callable[[], object]] = {}
        self._enqueued: list[str] = []  # passes begun since the device was last waited for
        self._fresh = {name for name in program.passes if not self.plan.live_into(name)}
        for name, runs in program.tables.items():
            counts, values = zip(*runs, strict=True)
            self.write(name, np.repeat(np.array(values), counts))

    def _allocated(self) -> int:
        try:
            return self.device.allocate(self.plan.nbytes)
        except DeviceError as error:
            from ported.memory_report import refusal

            said = refusal(self.plan, min(self.device.available(), self.plan.nbytes))
            raise memory.PlanError(f"{said}\nthe driver: {error}") from error

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

    def _named(self, bound: Bound, call: Callable[[], object]) -> Callable[[], None]:
        """The call, its errors with pass, step, kernel and buffers."""
        def step() -> None:
            try:
                call()
                if self.plain:
                    self.device.synchronize()
            except Exception as error:
                raise ExecutorError(f"{bound}, kernel {bound.version}: {error}") from error
        return step

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
        return self._fetched(name, self.address(name), *self._form(name))

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        """`read` of rows `start` to `stop` of a buffer seen as rows (see `Buffer.rows`)."""
        rows, *width = self.program.buffers[name].rows
        if not 0 <= start < stop <= rows:
            raise ExecutorError(f"read {name}[{start}:{stop}]: expected rows within 0:{rows}")
        address, _ = self._span(View(name, start, stop))
        return self._fetched(name, address, (stop - start, *width), self._form(name)[1])

    def _fetched(self, name: str, address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        try:
            found = self.device.read(address, shape, dtype)
        except DeviceError as error:
            raise self._lost(f"read {name}", error) from error
        self._enqueued.clear()
        return decode(found, dtype)

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
        """Enqueues a pass. The device may do it later: `read` and `synchronize` wait for it, and it
        is there that a fault on the device shows, unless the executor is `plain`."""
        if self.poison:
            self.enter(name)
        if name not in self._replays:
            with stage(f"capturing {name}"):
                self._replays[name] = self._replay(name)
        if name not in self._enqueued:
            self._enqueued.append(name)
        try:
            self._replays[name]()
        except DeviceError as error:
            raise self._lost(f"run {name}", error) from error

    def _replay(self, name: str) -> Callable[[], object]:
        if name not in self._calls:
            raise ExecutorError(f"found no pass '{name}', expected {', '.join(self._calls)}")
        if self.plain:
            return partial(_in_order, tuple(self._calls[name]))
        return self.device.replay(self._calls[name])

    def synchronize(self) -> None:
        """Waits until the device has done all that was enqueued."""
        try:
            self.device.synchronize()
        except DeviceError as error:
            raise self._lost("synchronize", error) from error
        self._enqueued.clear()

    def _lost(self, where: str, error: DeviceError) -> ExecutorError:
        """A fault of something enqueued earlier: the device does not say which step it was."""
        steps = {name: len(self._bound[name]) for name in self._enqueued}
        passes = ", ".join(f"{name} ({count} steps)" for name, count in steps.items())
        return ExecutorError(f"{where}: {error}\nit happened in one of the passes {passes or '-'}; "
                             "the flag --plain waits after each step and names the one")

    def run_step(self, name: str, k: int) -> None:
        """Step `k` of a pass alone, on whatever its buffers hold; waits for it."""
        self._calls[name][k]()
        self.synchronize()

    def run_steps(self, name: str, after: Callable[[int, Bound], None],
                  before: Callable[[int, Bound], None] | None = None) -> None:
        """A pass step by step, with a call before and after each one."""
        self.enter(name)
        for k, bound in enumerate(self._bound[name]):
            if before:
                before(k, bound)
            self.run_step(name, k)
            after(k, bound)

    def profile(self, name: str, repeats: int = 5) -> list[tuple[str, str, float]]:
        """Runs a pass and times each step: (step, version, seconds).

        A device with a clock of its own (`elapsed`) runs each step `repeats` times and the least
        counts, so that no launch is waited for; numbers that add up, add up more often then.
        """
        self.enter(name)
        elapsed = getattr(self.device, "elapsed", None)
        found = []
        for bound, call in zip(self._bound[name], self._calls[name], strict=True):
            if elapsed:
                seconds = min(elapsed(call, repeats)) * 1e-3
            else:
                start = time.perf_counter()
                call()
                self.synchronize()
                seconds = time.perf_counter() - start
            found.append((bound.step.name, bound.version, seconds))
        return found

    def close(self) -> None:
        """Gives the memory back; arrays from `buffer` stay valid, the executor does not."""
        self._calls = dict.fromkeys(self._calls, ())
        self._replays = dict.fromkeys(self._calls, partial(_in_order, ()))
        self._free()


def _in_order(calls) -> None:
    for call in calls:
        call()
