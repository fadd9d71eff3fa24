"""Where a run's numbers go as it runs: log, terminal, checkpoints."""

import time
from collections.abc import Callable

from ported import stages
from ported.training import report
from ported.training.log import Log
from ported.training.tokens import VOCABULARY


class Record:
    """Where a run's numbers go: log, terminal, checkpoints."""

    def __init__(self, trainer, log: Log, save: Callable[[int, dict], None], begun: int,
                 steps: int):
        self.trainer, self.log, self.save, self.saved = trainer, log, save, begun
        config, program = trainer.config, trainer.executor.program
        sizes = program.sizes
        full = report.peak(trainer.executor.device.processor, config.precision)
        if full:
            shapes = {name: b.shape for name, b in program.members("parameters").items()}
            full /= report.operations(report.parameters_of(shapes, sizes["V"]), sizes)
        self.show = report.Progress(steps, config.batch * config.sequence_length, full)
        self.first, self.done = True, begun
        self.talks = (trainer.config.sample_tokens > 0
                      and trainer.executor.program.sizes["V"] == VOCABULARY)

    def step(self, step: int, loss: float, norm: float, rate: float, began: float,
             skipped: bool) -> None:
        seconds = time.perf_counter() - began
        mark = {"skipped": True} if skipped else {}
        self.done = step
        self.log.write({"step": step, "loss": loss, "norm": norm, "lr": rate, **mark})
        self.log.time({"step": step, "ms": seconds * 1e3, **self._first()})
        self.show.step(step, loss, norm, rate, seconds, skipped)

    def _first(self) -> dict:
        """Of a run's first step: how long after the start it was done, and what took so long."""
        if not self.first:
            return {}
        self.first, whole = False, stages.since_start()
        found = stages.taken()
        if self.trainer.executor.device.name == "cuda" and whole:
            self.show.say(f"first step done {whole:.2f} s after the start: "
                          f"{stages.told(found, whole)}")
        return {"since_start": whole, "stages": found}

    def validation(self, step: int) -> None:
        with stages.stage("validation"):
            loss = self.trainer.validate()
        self.log.write({"step": step, "val_loss": loss})
        self.show.say(f"step {step}: validation loss {loss:.4f}")

    def sample(self, step: int) -> None:
        """Only of models with GPT-2's vocabulary: the tokens of others are no text."""
        if self.talks:
            words = self.trainer.sample(step)
            self.log.write({"step": step, "sample": words})
            self.show.say(f"step {step}: {words}")

    def checkpoint(self, step: int) -> None:
        self.log.sync()
        self.save(step, self.trainer.state())
        self.saved = step
