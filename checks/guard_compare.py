"""compare.py --bisect as a guard: short runs of a small model under several rewrites.

    python -m checks.guard_compare        the exit code; lines `named: ...`, what each mode names
                                          first
    python -m checks.guard_compare WORD   the same until WORD is named

One whole comparison, bisected; then, in other rewrites, the program, its plan, and its steps on the
reference's inputs; then the trainer's own parts in bfloat16 with master weights, on the emulated
device.
"""

import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path

import compare
from checks import (
    compare_bisect,
    compare_program,
    compare_runs,
    compare_trainer,
    stock_runs,
    training_run,
)
from ported.training import start
from ported.training.config import Config, parse

FLAGS = ["--steps", "6", "--batch", "4", "--micro-batch", "2", "--clip", "0.5", "--warmup", "3",
         "--weight-decay", "0.3", "--beta1", "0.8", "--beta2", "0.97", "--eval-sequences", "5",
         "--seed", "7"]
WHOLE = ["--fuse", "all", "--head-chunks", "2", "--recompute", "ln"]
OTHERS = (["--fuse", "none", "--clip", "1e3"],  # which no gradient here reaches
          ["--fuse", "residual_layernorm_backward,gelu_linear_forward,linear_gelu_backward"])
LOW = ["--device", "emulated", "--dtype", "bfloat16", "--batch", "2", "--micro-batch", "1",
       "--sequence-length", "8", "--steps", "2", "--fuse", "all"]
SCHEDULES = ("linear", "constant", "wsd")


def _walked(config: Config) -> Iterator:
    """The program, the plan and single steps of one configuration, after a step by stock."""
    size = start.begin(config, {}).size
    first = compare_runs.first_weights(config, size)
    ported = compare_runs.Ported(config, first, {}, lambda text: None)
    loader = compare_runs.loader(config, lambda text: None, size.V)
    truth = stock_runs.StockRun(stock_runs.TRUTH, config, size, first)
    truth.step(loader.next(config.batch), config.learning_rate)
    state = compare_runs.next_state(config, truth, loader)
    if config.device == "cpu":
        yield from compare_program.program(ported.executor, config, size, state)
        yield from compare_program.plan(ported.executor)
        yield from compare_bisect.fed(ported.executor, state, every=False)
    else:
        yield from compare_trainer.judged(ported.executor, config, first)


def _scheduled(config: Config) -> Iterator[compare_program.Part]:
    """The schedules that the whole comparison does not follow."""
    from dataclasses import replace

    for name in SCHEDULES:
        yield from compare_trainer.scheduled(replace(config, schedule=name, steps=30))


def _everything(flags: list[str]) -> Iterator[Iterable]:
    """Lists of what was judged, one by one."""
    whole = parse([*flags, *FLAGS, *WHOLE])[0]
    size = start.begin(whole, {}).size
    ported = compare_runs.Ported(whole, compare_runs.first_weights(whole, size), {}, print)
    yield compare_program.plan(ported.executor)  # first: a wrong one may end the process
    found = compare.compare(whole, bisect=True, say=lambda text: None)
    yield found.walk
    yield [compare_program.Part("run", one.point.family, f"step {one.point.step}",
                                "" if one.within else "left the band") for one in found.judged]
    yield _scheduled(whole)
    for more in (*OTHERS, LOW):
        yield _walked(parse([*flags, *FLAGS, *more])[0])


def guarded(until: str | None = None) -> int:
    """0 where everything holds; prints what the first of each mode names. `until` ends it after the
    first part that refuses something, `until` having been named; an empty one asks for no name."""
    start.kernels_for, wrong, named = training_run.unproved, 0, {""}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for part in _everything(training_run.learnable(Path(folder))):
                seen = set()
                for one in part:
                    if not one.accepted and one.mode not in seen:
                        seen.add(one.mode)
                        named.update(one.operation.split())
                        wrong += 1
                        print(f"first to leave its bound, {one}\nnamed: {one.operation}",
                              flush=True)
                if wrong and until in named:
                    break
        except Exception:  # of the patched checkout: told, and a refusal like any other
            traceback.print_exc(file=sys.stdout)
            wrong += 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(guarded(*sys.argv[1:]))
