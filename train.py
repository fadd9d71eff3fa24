"""Trains GPT-2 with proved kernels: `python train.py`, `python train.py --help`.

From top to bottom: what to compute (data, program, kernels, memory), the parts of a step, the loop.
Same configuration and same kernel lock: same log and checkpoints, bit for bit, also after a kill
and --resume. PyTorch is not imported; where a kernel must be proved first, another process does it.
"""

import math
import os
import sys
import time
from pathlib import Path

import numpy as np

from ported.device import DeviceError
from ported.executor import Executor, ExecutorError
from ported.stages import add, since_start, stage
from ported.training import checkpoint, report, runs, sampling, start, text, trace
from ported.training.config import Config, parse
from ported.training.data import open_data
from ported.training.errors import BadInput
from ported.training.interrupt import Interrupt
from ported.training.loader import Loader, in_order
from ported.training.log import Log, line
from ported.training.outlier import Window, skips
from ported.training.record import Record
from ported.training.schedules import SCHEDULES
from ported.training.tokens import VOCABULARY, Tokens


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 done, 1 refused or failed, 128 + signal stopped (and can be resumed)."""
    try:
        return train(*parse(arguments))
    except KeyboardInterrupt:
        print("\nstopped before the first step", file=sys.stderr)
        return 130
    except (ValueError, DeviceError) as error:
        if type(error) is ValueError:  # what we refuse has a class of its own; this is a bug
            raise
        print(f"\nerror: {error}", file=sys.stderr, flush=True)
        if trace.gone(error):
            os._exit(1)  # what waits for a lost GPU at exit would wait for ever
        return 1


def train(config: Config, given: dict) -> int:
    """Everything before the first step, then the loop. `given`: the flags typed."""
    add("Python and imports", since_start() or 0.0)
    begun = start.begin(config, given)
    config, size = begun.config, begun.size
    ahead, commit = start.ahead(config), start.beside(runs.commit)
    first_weights = start.drawn(begun)
    with stage("data"):
        train_tokens, val_tokens = open_data(config, print, size.V)
    device, program, kernels, lock = start.prepared(begun, ahead, print)
    executor = Executor(program, device, kernels, plain=config.plain)
    print(executor.plan.table())

    loader = Loader(train_tokens, config.seed, only=config.batch if config.overfit else 0)
    steps = config.steps if config.steps >= 0 else train_tokens.windows // config.batch
    parameters, moments = start.tensors(executor)
    checkpoint.check_room(begun.run or Path(config.out), parameters, config, steps)
    start.fill(begun, parameters, moments, first_weights)
    executor.write("dscale", 1 / (config.batch * config.sequence_length))

    sizes = {name: program.sizes[name] for name in ("L", "H", "C", "V", "Tmax")}
    recorded = {"config": config.record(), "sizes": sizes, "lock": lock}
    first = {"record": "run", **recorded, "commit": commit.result(), "device": device.processor}
    run = begun.run or runs.new_run(config, line(first))
    print(f"{report.parameter_count(parameters.shapes, size.V)} parameters; {config.accumulate} x "
          f"{config.micro} sequences of {config.sequence_length} tokens a step; data for "
          f"{train_tokens.windows // config.batch} steps; {report.computer(device)}; run {run}")

    def save(step: int, state: dict) -> None:
        checkpoint.save(run, step, {**recorded, **state}, parameters, moments, sizes, config.keep)
    with Log(run) as log:
        for path in checkpoint.set_aside(run, begun.step):
            print(f"this run comes here again: kept as {path}")
        log.cut(begun.step)
        if begun.changed:
            log.write({"step": begun.step, "changed": begun.changed})
        trainer = Trainer(config, executor, loader, val_tokens, begun)
        record = Record(trainer, log, save, begun.step, steps)
        return guarded(trainer, record, run, steps, recorded)


def guarded(trainer: "Trainer", record: "Record", run: Path, steps: int, recorded: dict) -> int:
    """`loop`. Where the device, or a step of the program, fails, BadInput says all that can be
    known of it; checkpoints are as they were."""
    try:
        return loop(trainer, record, run, record.done, steps)
    except (ExecutorError, DeviceError) as error:
        last = (checkpoint.complete(run) or [None])[-1]
        found = str(error)
        if trace.gone(error) and not trainer.config.plain:
            found += "\n" + trace.traced(trainer.config, recorded, last, record.done,
                                         record.show.say)
        raise BadInput(f"training, step {record.done + 1}", found, "steps that the device can do",
                       f"python train.py --resume {run}, which goes on from "
                       f"{last or 'the beginning'}") from error


class Trainer:
    """The parts of a step, and all that changes from one step to the next besides the weights."""

    def __init__(self, config: Config, executor: Executor, loader: Loader, val: Tokens,
                 begun: start.Start):
        self.config, self.executor, self.loader, self.val = config, executor, loader, val
        self.updates = 0
        self.windows = {kind: Window(config.outlier_window) for kind in ("loss", "norm")}
        if begun.checkpoint:
            loader.restore(begun.state["loader"], begun.checkpoint)
            self.updates = begun.state["updates"]
            self.windows = {kind: Window(config.outlier_window, values)
                            for kind, values in begun.state["windows"].items()}

    def state(self) -> dict:
        """What a checkpoint keeps of this. Random numbers depend on seed and step alone."""
        windows = {kind: list(window.values) for kind, window in self.windows.items()}
        return {"loader": self.loader.state(), "updates": self.updates, "windows": windows}

    def gradients(self) -> tuple[float, float]:
        """(loss, gradient norm) of the next batch; the gradients stand in the executor.

        Here the host waits for the device, once a micro-batch, at its end; from one such place to
        the next everything is enqueued without waiting, and the next tokens are read meanwhile.
        Loss and norm are looked at before the update, not after: only so are numbers that are not
        finite never updated with, and no checkpoint holds them. It leaves a GPU idle for some tens
        of microseconds a step.
        """
        self.executor.run("zero")
        losses = []
        for k in range(self.config.accumulate):
            self._run(*self.loader.next(self.config.micro), "forward", "backward")
            if k == self.config.accumulate - 1:
                self.executor.run("norm")
            self.loader.prepare(self.config.micro)
            losses.append(self.executor.read("losses"))
        return report.mean(np.concatenate(losses)), float(self.executor.read("norm")[0])

    def _run(self, tokens: np.ndarray, targets: np.ndarray, *passes: str) -> None:
        self.executor.write("tokens", tokens)
        self.executor.write("targets", targets)
        for name in passes:
            self.executor.run(name)

    def unusual(self, loss: float, norm: float) -> bool:
        """Whether this step's update is to be left out."""
        scores = {"loss": self.windows["loss"].push(loss), "norm": self.windows["norm"].push(norm)}
        return (skips(scores["loss"], self.config.skip_loss)
                or skips(scores["norm"], self.config.skip_norm))

    def update(self, rate: float) -> None:
        """AdamW on the gradients that stand in the executor."""
        self.updates += 1
        self.executor.write("lr", rate)
        self.executor.write("t", self.updates)
        self.executor.run("update")

    def validate(self) -> float:
        """Mean loss, in nats a token, over the same sequences every time."""
        losses, T = [], self.config.sequence_length
        for tokens, targets, rows in in_order(self.val, self.config.micro,
                                              self.config.eval_sequences):
            self._run(tokens, targets, "evaluate")
            losses.append(self.executor.read("losses")[: rows * T])
        return report.mean(np.concatenate(losses))

    def sample(self, step: int) -> str:
        """Text that continues the prompt; the same for the same weights, seed and step."""
        config, T = self.config, self.config.sequence_length
        tokens = text.encode(config.prompt) or [text.END]
        for number in range(config.sample_tokens):
            seen = tokens[-T:]
            block = np.zeros((config.micro, T), np.int32)
            block[0, : len(seen)] = seen
            self.executor.write("tokens", block)
            self.executor.run("sample")
            logits = self.executor.read_rows("logits", len(seen) - 1, len(seen))[0, :VOCABULARY]
            uniform = sampling.draw(config.seed, step, number)
            tokens.append(sampling.pick(logits, config.temperature, config.top_k, uniform))
        return text.decode(tokens)



def loop(trainer: Trainer, record: Record, run: Path, step: int, steps: int) -> int:
    """Trains from `step` to `steps`, or until a signal; the exit code."""
    config = trainer.config
    schedule = SCHEDULES[config.schedule]

    def due(every: int) -> bool:
        return step == steps or every > 0 and step % every == 0
    with Interrupt() as interrupt:
        if step == 0:
            record.validation(step)
        while step < steps and not interrupt.signal:
            began = time.perf_counter()
            rate = config.learning_rate * schedule(step, steps, config.warmup,
                                                   config.final_fraction)
            with stage("gradients"):
                loss, norm = trainer.gradients()
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise not_finite(run, step + 1, loss, norm)
            skipped = trainer.unusual(loss, norm)
            if not skipped:
                trainer.update(rate)
            step += 1
            record.step(step, loss, norm, rate, began, skipped)
            if due(config.eval_every):
                record.validation(step)
            if due(config.sample_every):
                record.sample(step)
            if due(config.checkpoint_every):
                record.checkpoint(step)
        if record.saved != step:
            record.checkpoint(step)
        return ended(config, run, step, interrupt, record.show)


def not_finite(run: Path, step: int, loss: float, norm: float) -> BadInput:
    """Nothing was updated with such numbers, and no checkpoint holds them."""
    last = checkpoint.complete(run)
    then = f"python train.py --init-from {last[-1]}" if last else "python train.py"
    return BadInput(f"training, step {step}", f"loss {loss}, gradient norm {norm}",
                    "finite numbers", f"{then} with a lower --learning-rate, or more --warmup")


def ended(config: Config, run: Path, step: int, interrupt: Interrupt, show: report.Progress) -> int:
    """Tidies up after kills; the picture of the curve, and what to type next."""
    checkpoint.tidy(run, config.keep)
    if config.curve and step:
        from ported.training import curve  # matplotlib: a fifth of a second, not before training

        show.say(f"the curve: {curve.draw(run)}")
    if interrupt.signal:
        show.say(f"stopped after step {step}; go on with\n  python train.py --resume {run}")
    else:
        show.say(report.next_steps(run, step))
    return interrupt.exit_code


if __name__ == "__main__":
    sys.exit(main())
