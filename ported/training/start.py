"""Where a run begins: anew, from a Hugging Face folder's weights, or where another one stopped."""

import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from ported import device as devices
from ported import evidence, run_shape
from ported.device import Device
from ported.executor import Executor, contracts_of, wanted
from ported.stages import stage
from ported.training import checkpoint, fusions, hugging_face, log, weights
from ported.training.config import Config
from ported.training.errors import BadInput
from ported.training.tensor_files import Tensors
from reference import rewrites
from reference.program import Buffer, Program
from reference.programs import gpt2

# Rows of logits at a time, where --head-chunks does not say: on a processor as many as its caches
# hold, on a GPU at least as many as fill it, so that the fewest bytes stand beside full speed.
CHUNK, CHUNK_CUDA = 512, 8192
AHEAD, ROOM = 8, 1 << 30  # threads that draw first weights, and bytes they may be ahead
NICE = 10  # of those threads: where cores are few, what they are waited for goes first


@dataclass(frozen=True)
class Start:
    """`run` and what follows are empty for a new run.

    step     updates tried already
    changed  flags that differ from what the log says so far
    state    the checkpoint's, or the log's first record where there is no checkpoint yet
    """

    config: Config
    size: gpt2.Config
    run: Path | None = None
    checkpoint: Path | None = None
    step: int = 0
    changed: dict = field(default_factory=dict)
    state: dict = field(default_factory=dict)

    @property
    def lock(self) -> dict | None:
        """The kernel lock to obey."""
        return None if self.config.relock else self.state.get("lock")

    @property
    def threads(self) -> int | None:
        """Threads asked for; where nobody asked, those of the lock; None: all cores."""
        locked = self.lock["identity"].get("threads") if self.lock else None
        return self.config.threads or (int(locked) if locked else None)


def begin(config: Config, given: dict) -> Start:
    """Reads what --resume, --init-from and --model name. Raises BadInput for anything unusable."""
    if not config.resume:
        return _fitting(Start(config, _size(config, given)))
    run, folder = checkpoint.find(config.resume)
    step = checkpoint.step_of(folder) if folder else 0
    records = log.read(run / "log.jsonl")
    state = checkpoint.load(folder) if folder else records[0]
    where = folder or run / "log.jsonl"
    missing = {"config", "lock", "sizes"} - state.keys()
    if missing:
        raise BadInput(where, f"no {', '.join(sorted(missing))}", "what train.py writes there",
                       "python train.py begins a new run")
    before = dict(state["config"])
    for record in records:
        if "changed" in record and record["step"] <= step:
            before |= record["changed"]
    config = Config.from_record(before, where).resumed(given, config.resume)
    changed = {name: value for name, value in config.record().items() if value != before[name]}
    size = gpt2.Config(**state["sizes"])
    return _fitting(Start(config, size, run, folder, step, changed, state))


def _size(config: Config, given: dict) -> gpt2.Config:
    if not config.init_from:
        return gpt2.config(config.model)
    size = gpt2.Config(**hugging_face.sizes(Path(config.init_from)))
    if "model" in given and gpt2.config(config.model) != size:
        raise BadInput(f"--model {config.model}", gpt2.config(config.model), f"{size}, which "
                       f"{config.init_from} holds", "leave out --model or --init-from")
    return size


def _fitting(start: Start) -> Start:
    T, Tmax = start.config.sequence_length, start.size.Tmax
    if T > Tmax:
        raise BadInput("--sequence-length", T, f"at most {Tmax}, the model's positions",
                       f"--sequence-length {Tmax}")
    return start


def ahead(config: Config):
    """What begins to come up for the run's device beside everything else; None for nothing."""
    if config.device != "cuda":
        return None
    from ported.device.cuda_ahead import Ahead

    return Ahead(config.precision)


def beside(function: Callable) -> Future:
    """`function` in a thread of its own from now on."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function)
    pool.shutdown(wait=False)
    return future


def open_device(begun: Start, ahead=None) -> Device:
    """The device that the run computes on, in the run's precision. `ahead`: see there."""
    config = begun.config
    more = {"threads": begun.threads} if config.device == "cpu" else {}
    with stage("device"):
        try:
            return devices.open(config.device, precision=config.precision, **more)
        finally:
            if ahead:
                ahead.settle()


def prepared(begun: Start, ahead, say: Callable[[str], None]) -> tuple[Device, Program, dict, dict]:
    """(device, program, choices by shape key, kernel lock). What the tree says is read first, while
    a GPU comes up (`ahead`)."""
    with stage("sources"):
        contracts_of(_one_layer(begun, rewrites.ALL))
        evidence.read_ahead("c" if begun.config.device == "cpu" else "cu")
    device = open_device(begun, ahead)
    program, names = program_for(begun, device)
    kernels, lock = kernels_for(program, device, begun, say)
    return device, program, kernels, {**lock, "fusions": list(names)}


def program_for(begun: Start, device: Device) -> tuple[Program, tuple[str, ...]]:
    """(`program_of`, its fusions for the lock): those of the lock, else of --fuse, else the ones
    that pay on `device` (see ported.training.fusions)."""
    config, lock = begun.config, begun.lock or {}
    with stage("fusions"):
        if "fusions" not in lock and config.fuse != "auto":
            names = _words(config.fuse)
        elif lock:
            names = fusions.of_lock(lock)
        else:
            names = fusions.decided(partial(_one_layer, begun), device, _listed(config.use))
    with stage("program"):
        return program_of(config, begun.size, names), names


def _one_layer(begun: Start, names: Sequence[str]) -> Program:
    """The program of one layer, whose steps are those of all layers."""
    return program_of(replace(begun.config, recompute="none"), replace(begun.size, L=1), names)


def program_of(config: Config, size: gpt2.Config,
               fuse: Sequence[str] | None = None) -> Program:
    """GPT-2 as the run computes it: rewritten as asked (by `fuse`, else by --fuse, where auto is
    all), AdamW's constants set, the norm in a pass of its own (an update may be skipped once it is
    known), AdamW's moments known by name."""
    B, T = config.micro, config.sequence_length
    adamw = {"beta1": config.beta1, "beta2": config.beta2, "eps": config.epsilon,
             "weight_decay": config.weight_decay}
    optimizer = "adamw_master_update" if config.masters else "adamw_update"
    if stochastic := config.rounding == "stochastic":
        optimizer, adamw["seed"] = "adamw_stochastic_update", config.seed
    program = gpt2.gpt2(
        size, B, T, fuse=_words(config.fuse) if fuse is None else fuse,
        recompute=_words(config.recompute),
        head_chunks=config.head_chunks or _chunks(B * T, config.device), master=config.masters,
        stochastic=stochastic,
        consts={optimizer: adamw, "global_norm_update": {"max_norm": config.clip}})
    norm = [step for step in program.passes["update"] if step.op == "global_norm_update"]
    update = [step for step in program.passes["update"] if step not in norm]
    moments = {name: Buffer(name, "F32", p.shape, "state", kind, p.offset)
               for kind in "mv" for p in program.members("parameters").values()
               for name in [f"{p.name}.{kind}"]}
    return replace(program, buffers={**program.buffers, **moments},
                   passes={**program.passes, "norm": norm, "update": update},
                   results={**program.results, "norm": ("norm", "scale"), "update": ()}).validate()


def _words(text: str) -> tuple[str, ...]:
    return rewrites.ALL if text in ("all", "auto") else tuple(
        word for word in _listed(text) if word != "none")


def _listed(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _chunks(N: int, device: str = "cpu") -> int:
    """The fewest equal parts of at most CHUNK rows; one part where they would be slivers. On cuda
    the most parts of at least CHUNK_CUDA rows."""
    if device == "cuda":
        return max(c for c in range(1, max(N // CHUNK_CUDA, 1) + 1) if N % c == 0)
    chunks = next(c for c in range(1, N + 1) if N % c == 0 and N // c <= CHUNK)
    return chunks if N // chunks >= CHUNK // 4 else 1


def kernels_for(program: Program, device, start: Start,
                say: Callable[[str], None]) -> tuple[dict, dict]:
    """(choices by shape key, kernel lock): the lock's, else the fastest proved ones, each proved at
    the run's shapes. Raises EvidenceError for what is not proved."""
    with stage("contracts"):
        contracts = contracts_of(program)
        needs = wanted(program, contracts)
    with stage("evidence and choice"):
        chosen, lock = _chosen(needs, contracts, device, start, say)
    steps = {key: (chosen[key], axes, consts) for key, (_, axes, consts) in needs.items()}
    with stage("run-shape proofs"):
        now, before = run_shape.ensure(steps, contracts, device, say)
    say(f"{now + before} kernels proved at these shapes, {before} of them before")
    return chosen, lock


def _chosen(needs: Mapping, contracts: Mapping, device, start: Start,
            say: Callable[[str], None]) -> tuple[dict, dict]:
    """(choices, lock) without a proof at the run's shapes."""
    if start.lock:
        chosen, lock = evidence.obey(start.lock, contracts, device), start.lock
        if lock["identity"] != device.identity:
            say(f"the kernel lock is of {lock['identity']},\nthis is {device.identity}: "
                "the run goes on, but not bit for bit")
    else:
        chosen = evidence.choose(needs, contracts, device, _listed(start.config.use))
        lock = evidence.lock(chosen, contracts, device)
    return chosen, lock


def tensors(executor: Executor) -> tuple[Tensors, Tensors]:
    """(parameters, moments) of an executor, by name, as float32 in every precision: where there are
    master weights they are the parameters, and writing one writes its rounded image too."""
    program = executor.program
    shapes = {name: buffer.shape for name, buffer in program.members("parameters").items()}

    def read(name: str) -> np.ndarray:
        master = f"{name}.master"
        return executor.read(master if master in program.buffers else name)

    def write(name: str, array: np.ndarray) -> None:
        for each in (name, f"{name}.master"):
            if each in program.buffers:
                executor.write(each, array)
    moments = {name: buffer.shape for region in "mv"
               for name, buffer in program.members(region).items()}
    return Tensors(shapes, read, write), Tensors(moments, executor.read, executor.write)


class Drawn:
    """First weights, drawn by threads from now on; each depends on its name alone.

    Gives (name, value) in the order in which they are done. At most ROOM bytes wait to be taken,
    and one tensor more.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], seed: int, size: gpt2.Config):
        self.names = iter(sorted(shapes, key=lambda name: -prod(shapes[name])))
        self.shapes, self.seed, self.size, self.room = shapes, seed, size, ROOM
        self.pool, self.waiting = ThreadPoolExecutor(AHEAD, initializer=_yielding), {}
        weakref.finalize(self, self.pool.shutdown, wait=False, cancel_futures=True)
        self._begin()

    def _begin(self) -> None:
        while self.room > 0 and (name := next(self.names, None)):
            self.room -= 4 * prod(self.shapes[name])
            future = self.pool.submit(weights.initial, name, self.shapes[name], self.seed,
                                      self.size.L, self.size.V)
            self.waiting[future] = name

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        while self.waiting:
            for future in wait(self.waiting, return_when=FIRST_COMPLETED)[0]:
                name = self.waiting.pop(future)
                self.room += 4 * prod(self.shapes[name])
                yield name, future.result()
            self._begin()


def _yielding() -> None:
    """This thread (Linux counts priorities by thread) gives way to the others."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def drawn(begun: Start) -> Drawn | None:
    """The first weights of a run that begins anew; None for one that takes others."""
    if begun.checkpoint or begun.config.init_from:
        return None
    return Drawn(gpt2.parameters(begun.size), begun.config.seed, begun.size)


def fill(start: Start, parameters: Tensors, moments: Tensors, first: Drawn | None) -> None:
    """The values with which training starts: the checkpoint's, a folder's, or those drawn."""
    size = start.size
    if start.checkpoint:
        checkpoint.restore(start.checkpoint, parameters, moments, size.V)
    elif start.config.init_from:
        hugging_face.read(Path(start.config.init_from), parameters, size.V)
    else:
        for name, value in _waited(first):
            with stage("writing first weights"):
                parameters.write(name, value)


def _waited(first: Iterable) -> Iterator:
    """The same, with the time that is waited for the next one counted."""
    values = iter(first)
    while True:
        with stage("waiting for first weights"):
            found = next(values, None)
        if found is None:
            return
        yield found
