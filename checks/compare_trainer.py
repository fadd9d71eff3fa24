"""The trainer's own loop under watch, part by part, and what a resumed run begins with.

*trainer*: train.py makes a few steps in a folder of its own; what its loop feeds to the program
(data, numbers, gradients as accumulated, the clipping factor) is held against stock PyTorch in
float64 and against the data files, read here by other code. Each part is judged given the others,
so that one wrong part has one name. *kept*: the run is resumed from its last checkpoint; everything
that changes in training must be the same bits, and the files must be what stock reads.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

import train
from checks import compare_kept, stock_runs
from checks.compare_bisect import FREE
from checks.compare_kept import STEPS
from checks.compare_program import Part
from ported import evidence
from ported.device import DeviceError
from ported.executor import Executor
from ported.training import log, start
from ported.training.config import Config
from ported.training.data import open_data
from ported.training.loader import Loader
from ported.training.schedules import SCHEDULES
from ported.training.tokens import HEADER, Tokens
from reference.builder import gradient
from reference.programs import gpt2

SIZES = ("L", "H", "C", "V", "Tmax")
UNIT = 2.0**-24
EXACT = 1e-12  # of numbers that are computed in float64 twice, by a few operations
WHOLE = 1 << 15  # windows up to which the order of two whole epochs is looked at


def unlike(found: float, expected: float, allowed: float) -> str:
    """Why two numbers differ; empty where they do not. A NaN differs."""
    return "" if abs(found - expected) <= allowed else (
        f"found {found:.9g}, expected {expected:.9g} within {allowed:.2g}")


@dataclass
class Seen:
    """What one step of the trainer fed to the program, and what it said of it."""

    tokens: list[np.ndarray] = field(default_factory=list)
    targets: list[np.ndarray] = field(default_factory=list)
    dscale: list[float] = field(default_factory=list)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    loss: float = float("nan")
    norm: float = float("nan")


class Watched:
    """The executor, looked at when a pass begins."""

    def __init__(self, executor):
        self.executor, self.steps, self.open = executor, [], Seen()

    def __getattr__(self, name: str):
        return getattr(self.executor, name)

    def run(self, name: str) -> None:
        read = self.executor.read
        if name == "forward":
            self.open.tokens.append(read("tokens"))
            self.open.targets.append(read("targets").reshape(read("tokens").shape))
            self.open.dscale.append(float(read("dscale")[0]))
        if name == "update":
            self.open.gradients = {n: read(gradient(n))
                                   for n in self.executor.program.members("parameters")}
            self.open.numbers = {n: float(read(n)[0]) for n in ("norm", "scale", "lr", "t")}
        self.executor.run(name)


class Watch:
    """In the place of train.py's `loop`: the same loop with its executor and its record looked at,
    or, for a run that is resumed, only what it would begin with."""

    def __init__(self, resumed: bool = False):
        self.plain, self.resumed, self.validations = train.loop, resumed, []

    def __call__(self, trainer, record, run: Path, step: int, steps: int) -> int:
        self.trainer, self.run, self.begun = trainer, run, step
        self.executor = trainer.executor
        self.state = _state(self.executor)
        if self.resumed:
            return 0
        trainer.executor = self.watched = Watched(self.executor)
        tell, validate, save = record.step, trainer.validate, record.checkpoint

        def told(step: int, loss: float, norm: float, *more) -> None:
            self.watched.open.loss, self.watched.open.norm = loss, norm
            self.watched.steps.append(self.watched.open)
            self.watched.open = Seen()
            tell(step, loss, norm, *more)

        def validated() -> float:
            self.validations.append(validate())
            return self.validations[-1]

        def saved(step: int) -> None:
            if step == steps:
                trainer.updates -= 1  # as if one update had been skipped
            save(step)
        record.step, trainer.validate, record.checkpoint = told, validated, saved
        code = self.plain(trainer, record, run, step, steps)
        self.state = _state(self.executor)
        return code


def _state(executor: Executor) -> dict[str, dict[str, np.ndarray]]:
    """Every learned region, by member."""
    buffers = executor.program.buffers
    return {region: {name: executor.read(name) for name in executor.program.members(region)}
            for region in ("parameters", "master", "m", "v") if region in buffers}


@contextlib.contextmanager
def watching(kernels: dict, resumed: bool = False) -> Iterator[Watch]:
    """train.py with its loop watched, on the kernels given, silent."""
    def chosen(program, device, begun, say):
        from ported.executor import contracts_of

        return kernels, evidence.lock(kernels, contracts_of(program), device)
    watch, before = Watch(resumed), (train.loop, start.kernels_for)
    train.loop, start.kernels_for = watch, chosen
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield watch
    finally:
        train.loop, start.kernels_for = before


def judged(executor: Executor, config: Config, first: dict[str, np.ndarray]) -> Iterator[Part]:
    """All parts, of runs on the executor's kernels."""
    with tempfile.TemporaryDirectory() as folder:
        short = replace(config, steps=STEPS, curve=False, checkpoint_every=2, eval_every=0, keep=0,
                        sample_tokens=0, out=folder, fuse=_fusions(executor, config))
        size, failed = gpt2.Config(**{n: executor.program.sizes[n] for n in SIZES}), ""
        try:
            with watching(executor.kernels) as watch:
                train.train(short, {})
        except (ValueError, DeviceError) as error:
            failed = str(error)
        if watch.validations:
            yield from data(watch.trainer.loader, watch.watched.steps)
            yield from numbers(config, short, size, watch, first)
            yield from logged(watch)
        if failed:
            yield Part("trainer", "loop", "train.py", failed)
            return
        yield from compare_kept.recorded(watch, size)
        try:
            with watching(executor.kernels, resumed=True) as again:
                train.train(Config(resume=str(watch.run)), {"resume": str(watch.run)})
        except (ValueError, DeviceError) as error:
            yield Part("kept", "loop", "train.py --resume", str(error))
            return
        yield from compare_kept.kept(watch, again, short)


def _fusions(executor: Executor, config: Config) -> str:
    """The run's fusions by name, where they follow from proofs and timings."""
    if config.fuse != "auto":
        return config.fuse
    names = {step.op for steps in executor.program.passes.values() for step in steps}
    shared = ["shared_residual_gradient"] if "dres" in executor.program.buffers else []
    from reference import rewrites

    return ",".join([*(n for n in rewrites.FUSIONS if n in names), *shared]) or "none"


def _windows(tokens: Tokens) -> list[np.ndarray]:
    """Every window of the data, read from the files by other code."""
    found, T = [], tokens.length
    for shard in tokens.shards:
        words = np.fromfile(shard.path, "<u2", offset=HEADER).astype(np.int32)
        found += [words[k * T : (k + 1) * T + 1] for k in range((len(words) - 1) // T)]
    return found


def data(given: Loader, steps: list[Seen]) -> Iterator[Part]:
    """Rows are windows of the files, targets the words after; every window once an epoch."""
    windows = _windows(given.tokens)
    following: dict[bytes, set[bytes]] = {}
    for window in windows:
        following.setdefault(window[:-1].tobytes(), set()).add(window[1:].tobytes())
    for number, seen in enumerate(steps, 1):
        for k, (tokens, targets) in enumerate(zip(seen.tokens, seen.targets, strict=True)):
            for row, after in zip(tokens, targets, strict=True):
                place = f"step {number}, micro-batch {k}"
                known = following.get(row.astype(np.int32).tobytes())
                yield Part("trainer", "tokens", place, "" if known else
                           "found a row that is no window of the data")
                right = not known or after.astype(np.int32).tobytes() in known
                yield Part("trainer", "targets", place, "" if right else
                           "found others than the words that follow in the data")
    yield Part("trainer", "tokens", "all windows", "" if given.tokens.windows == len(windows) else
               f"found {given.tokens.windows} windows, expected {len(windows)}")
    if 8 <= len(windows) <= WHOLE and not given.only:
        yield Part("trainer", "tokens", "order of two epochs", _order(given, len(windows)))


def _order(given: Loader, count: int) -> str:
    """What is wrong with the order of windows; empty where nothing is."""
    def epochs(seed: int) -> list[list[int]]:
        other = Loader(given.tokens, seed)
        return [[other._place(k) for k in range(n * count, (n + 1) * count)] for n in (0, 1)]
    (one, two), (other, _), every = epochs(given.seed), epochs(given.seed + 1), list(range(count))
    faults = {"an epoch misses a window": not sorted(one) == sorted(two) == every,
              "two epochs have one order": one == two, "two seeds have one order": one == other,
              "the order is that of the file": one == sorted(one)}
    return "; ".join(fault for fault, there in faults.items() if there)


def numbers(config: Config, short: Config, size: gpt2.Config, watch: Watch,
            first: dict[str, np.ndarray]) -> Iterator[Part]:
    """dscale, gradients, loss, norm, clipping, learning rate and t, given the data."""
    steps, T = watch.watched.steps, config.sequence_length
    sides = [stock_runs.StockRun(variation, config, size, first) for variation in (
        stock_runs.TRUTH, *stock_runs.strays(config.precision))]
    rates = stock_runs.rates(short)
    yield _validated(size, config, sides, watch.validations[0], "before training")
    for number, seen in enumerate(steps):
        def part(name: str, message: str, number: int = number) -> Part:
            return Part("trainer", name, f"step {number + 1}", message)
        share = 1 / (config.batch * T)
        batch = np.concatenate(seen.tokens), np.concatenate(seen.targets)
        yield part("tokens", "" if len(batch[0]) == config.batch else
                   f"found {len(batch[0])} sequences, expected {config.batch}")
        for value in seen.dscale:
            yield part("dscale", unlike(value, share, UNIT * share))
        theirs = []
        for run in sides:
            run.first = {}
            theirs.append((*run.step(batch, seen.numbers["lr"]), run.first))
        yield from _given(part, seen, theirs, config)
        lr, value = seen.numbers["lr"], rates[number]
        yield part("schedule", unlike(lr, value, 2 * UNIT * config.learning_rate))
        yield part("t", unlike(seen.numbers["t"], number + 1, 0))
    if len(steps) == STEPS:
        yield _validated(size, config, sides, watch.validations[-1], "at the end")
    yield from scheduled(config)


def logged(watch: Watch) -> Iterator[Part]:
    """The log's lines against what the loop computed, bit for bit."""
    records = [record for record in log.read(watch.run / "log.jsonl") if "loss" in record]
    said = [tuple(record.get(key) for key in ("step", "loss", "norm")) for record in records]
    found = [(k, seen.loss, seen.norm) for k, seen in enumerate(watch.watched.steps, 1)]
    values = [r["val_loss"] for r in log.read(watch.run / "log.jsonl") if "val_loss" in r]
    for what, ours, theirs in (("steps", said, found), ("validations", values, watch.validations)):
        yield Part("trainer", "log", what, "" if ours == theirs else
                   f"found {str(ours)[:80]}, the loop computed {str(theirs)[:80]}")


def scheduled(config: Config) -> Iterator[Part]:
    """The learning rate of every step by the trainer's schedule."""
    mine = [config.learning_rate * SCHEDULES[config.schedule](
        k, config.steps, config.warmup, config.final_fraction) for k in range(config.steps)]
    for k, (rate, expected) in enumerate(zip(mine, stock_runs.rates(config), strict=True), 1):
        yield Part("trainer", "schedule", f"step {k} of {config.steps}, {config.schedule}",
                   unlike(rate, expected, EXACT * config.learning_rate))


def _given(part: Callable, seen: Seen, sides: list[tuple], config: Config) -> Iterator[Part]:
    """Gradients, loss, norm and factor of one step against float64; the bound is FREE times the
    farthest of stock's own strays."""
    (loss, norm, _), *strays = sides
    found = {name: value.reshape(-1).astype(np.float64) for name, value in seen.gradients.items()}
    for name, value in found.items():
        expected, *others = (_flat(side[2][name]) for side in sides)
        error, scale = np.linalg.norm(value - expected), np.linalg.norm(expected)
        far = max(np.linalg.norm(other - expected) for other in others)
        allowed = FREE * (far + UNIT * scale)
        yield part("gradients", "" if error <= allowed else
                   f"{gradient(name)}: found an L2 error of {error:.3g}, expected at most "
                   f"{allowed:.3g} of {scale:.3g}")
    far = max(abs(stray[0] - loss) for stray in strays)
    yield part("loss", unlike(seen.loss, loss, FREE * (far + UNIT * abs(loss))))
    allowed = FREE * (max(abs(stray[1] - norm) for stray in strays) + UNIT * norm)
    yield part("norm", unlike(seen.norm, norm, allowed) or unlike(seen.numbers["norm"], norm,
                                                                  allowed))
    factor = min(1.0, config.clip / (seen.numbers["norm"] + 1e-6)) if config.clip else 1.0
    yield part("scale", unlike(seen.numbers["scale"], factor, 4 * UNIT))


def _flat(array) -> np.ndarray:
    return np.asarray(torch.as_tensor(array).cpu(), np.float64).reshape(-1)


def _validated(size: gpt2.Config, config: Config, sides: list, found: float, when: str) -> Part:
    """The mean loss over the first sequences of the validation data, each once."""
    windows = _windows(open_data(config, lambda text: None, size.V)[1])
    windows = windows[: config.eval_sequences or len(windows)]
    tokens, targets = (torch.tensor(np.stack(part)).long() for part in (
        [w[:-1] for w in windows], [w[1:] for w in windows]))
    losses = []
    for run in sides:
        with torch.no_grad():
            parts = [run._loss(a.to(run.place), b.to(run.place)).item() * len(a) for a, b in zip(
                tokens.split(16), targets.split(16), strict=True)]
        losses.append(sum(parts) / len(tokens))
    truth, *strays = losses
    far = max(abs(stray - truth) for stray in strays)
    return Part("trainer", "val_loss", when, unlike(
        found, truth, FREE * (far + UNIT * abs(truth))))
