"""Stock PyTorch against the ported trainer, step by step: `python compare.py [train.py's flags]`.

Both start from the same weights and see the same tokens. The verdict has two halves:
  the run   loss, gradient norm, the first gradients by name, parameters and moments stay as near
            to a float64 run of stock PyTorch as its own float32 runs do that differ only in the
            order of sums (the band); in bfloat16, as its own bfloat16 runs do;
  the steps each kernel, on the inputs that training gives it, passes the gate of the prover.
The exit code is 0 where both hold.

    python compare.py                          100 steps of train.py's model, a batch of 4
    python compare.py --unproved               with kernels that have no proof yet
    python compare.py --bisect                 and then every step of the program, buffer by buffer
    python compare.py runs/A runs/B            two logs of one configuration
    python compare.py --device cuda --model gpt2 --sequence-length 256 --steps 200 --data TEXT
                                               on a GPU, PyTorch there too; the steps with --bisect
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

# PyTorch's threads and the kernels' take turns here: one pool must not spin while the other works.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np

from checks import (
    compare_band,
    compare_bisect,
    compare_program,
    compare_report,
    compare_runs,
    compare_trainer,
    stock_runs,
    training_run,
)
from ported.device import DeviceError
from ported.source import Version
from ported.training import log, runs, start
from ported.training.config import Config, parse
from ported.training.errors import BadInput
from ported.training.loader import Loader
from ported.training.schedules import SCHEDULES
from reference.programs import gpt2

Say = Callable[[str], None]
MODES = ("program", "plan", "trainer", "kept", "free", "fed")
DEFAULTS = ["--steps", "100", "--batch", "4"]
FREE = ("threads", "device", "plain", "use", "out", "name", "eval_every", "eval_sequences",
        "sample_every", "sample_tokens", "prompt", "temperature", "top_k", "checkpoint_every",
        "keep", "curve", "fuse", "recompute", "head_chunks", "relock")


@dataclass
class Comparison:
    """What was found. `audit` and `walk`: outputs of single steps, `walk` where --bisect asked."""

    losses: list[float]
    band: compare_band.Band
    audit: list[compare_bisect.Judged] = field(default_factory=list)
    walk: list[compare_bisect.Judged | compare_program.Part] = field(default_factory=list)

    @property
    def judged(self) -> list[compare_band.Judged]:
        return self.band.judge()

    @property
    def run_holds(self) -> bool:
        return bool(self.band.points) and all(one.within for one in self.judged)

    @property
    def steps_hold(self) -> bool:
        return all(one.accepted for one in [*self.audit, *self.walk])

    @property
    def passed(self) -> bool:
        return self.run_holds and self.steps_hold

    def first(self, mode: str) -> compare_bisect.Judged | compare_program.Part | None:
        """The first that leaves its bound in a mode of MODES."""
        return next((one for one in [*self.walk, *self.audit]
                     if one.mode == mode and not one.accepted), None)


def _refuse(config: Config) -> None:
    for name in ("resume", "skip_loss", "skip_norm"):
        if getattr(config, name):
            raise BadInput(f"--{name.replace('_', '-')}", getattr(config, name),
                           "nothing: stock PyTorch has no such thing", "leave the flag out")
    if not 1 <= config.steps:
        raise BadInput("--steps", config.steps, "at least 1", "python compare.py --steps 100")


def follow(config: Config, size: gpt2.Config, candidates: Mapping, first: Mapping[str, np.ndarray],
           steps: int, say: Say) -> tuple[Comparison, stock_runs.StockRun, Loader]:
    """Truth, strays and candidates in step; what they did, the truth, and where the data stands."""
    loader = compare_runs.loader(config, say, size.V)
    truth, *strays = (stock_runs.StockRun(variation, config, size, first)
                      for variation in (stock_runs.TRUTH, *stock_runs.strays(config.precision)))
    found, looked = Comparison([], compare_band.Band()), compare_report.shown(steps)
    begun = truth.placed(first)
    schedule, points = SCHEDULES[config.schedule], found.band.points
    for number, right in zip(range(steps), stock_runs.rates(config), strict=False):
        rate = config.learning_rate * schedule(number, config.steps, config.warmup,
                                               config.final_fraction)
        batch = loader.next(config.batch)
        theirs = [run.step(batch, right) for run in (truth, *strays)]
        ours = {name: run.step(number, rate) for name, run in candidates.items()}
        found.losses.append(theirs[0][0])
        for k, family in enumerate(("loss", "norm")):
            points.append(compare_band.scalars(
                number + 1, family, theirs[0][k], {name: pair[k] for name, pair in ours.items()},
                [pair[k] for pair in theirs[1:]]))
        live = {n: run for n, run in candidates.items() if hasattr(run, "tensors")}
        if live and number == 0:
            points += compare_band.gradients(
                truth.first, {n: truth.placed(run.first) for n, run in live.items()},
                [run.first for run in strays])
        if live and number + 1 in looked:
            whole = {n: truth.placed(run.tensors()) for n, run in live.items()}
            points += compare_band.tensors(number + 1, truth.tensors(), begun, whole,
                                           [run.tensors() for run in strays])
            say(f"step {number + 1}: loss {theirs[0][0]:.4f} in float64, "
                + ", ".join(f"{pair[0]:.4f} {name}" for name, pair in ours.items()))
    return found, truth, loader


def compare(config: Config, kernels: Mapping[str, Version] | None = None, bisect: bool = False,
            say: Say = print) -> Comparison:
    """The ported trainer against stock PyTorch over `config.steps` steps.

    `kernels`, by contract name, go before what evidence chooses and are not asked for a proof: a
    door for checks, which put a wrong kernel there and see it caught.
    """
    _refuse(config)
    size = start.begin(config, {}).size
    first = compare_runs.first_weights(config, size)
    ported = compare_runs.Ported(config, first, kernels or {}, say)
    plan = list(compare_program.plan(ported.executor)) if bisect else []
    for part in plan:  # said at once: what follows may end the process
        if not part.accepted:
            say(str(part))
    found, truth, loader = follow(config, size, {"ported": ported}, first, config.steps, say)
    if config.device == "cuda" and not bisect:
        return found  # the prover judged the kernels at these shapes; here it would take minutes
    state = compare_runs.next_state(config, truth, loader)
    say("every kernel on the next step's inputs, by the gate")
    found.audit = list(compare_bisect.fed(ported.executor, state, every=False))
    if bisect:
        say("the program against stock, the plan, the trainer's own parts, then every step of the "
            "program, in a free run and on the reference's inputs")
        found.walk = [*compare_program.program(ported.executor, config, size, state), *plan,
                      *compare_trainer.judged(ported.executor, config, first),
                      *compare_bisect.free(ported.executor, state),
                      *compare_bisect.fed(ported.executor, state)]
    return found


def compare_logs(paths: list[str], most: int, say: Say = print) -> Comparison:
    """Two logs of one configuration, each within the band of that configuration.

    Raises BadInput where they differ in a flag that decides numbers.
    """
    files = [Path(p) / "log.jsonl" if Path(p).is_dir() else Path(p) for p in paths]
    logs = [log.read(file) for file in files]
    for records, file in zip(logs, files, strict=True):
        if not {"config", "sizes"} <= records[0].keys():
            raise BadInput(file, f"a first record of {', '.join(records[0])}",
                           "the configuration that train.py writes there", "name logs of train.py")
    configs = [Config.from_record(records[0]["config"], file)
               for records, file in zip(logs, files, strict=True)]
    differ = [f.name for f in dataclasses.fields(Config) if f.name not in FREE
              and len({getattr(config, f.name) for config in configs}) > 1]
    if differ:
        raise BadInput(" and ".join(paths), "different " + ", ".join(
            f"--{name.replace('_', '-')}" for name in differ), "logs of one configuration",
            "compare runs that differ in threads, kernels or device alone")
    candidates = {"A": compare_runs.Logged(logs[0]), "B": compare_runs.Logged(logs[1])}
    steps = min(most, *(len(run.rows) for run in candidates.values()))
    _refuse(dataclasses.replace(configs[0], steps=steps))
    if candidates["A"].rows == candidates["B"].rows:
        say(f"the two logs are equal, bit for bit, in all {len(logs[0]) - 1} records")
    size = gpt2.Config(**logs[0][0]["sizes"])
    first = compare_runs.first_weights(configs[0], size)
    return follow(configs[0], size, candidates, first, steps, say)[0]


def report(found: Comparison, config: Config, say: Say = print) -> int:
    """Table, picture and verdict; the exit code."""
    judged = found.judged
    named = dataclasses.replace(config, name=config.name or "compare")
    run = runs.new_run(named, log.line({"record": "compare", "config": config.record()}))
    say(compare_report.table(judged, found.losses, compare_report.shown(len(found.losses))))
    say(compare_report.verdict(judged, found.band,
                               [one.name for one in stock_runs.strays(config.precision)]))
    steps = [*found.audit, *found.walk]
    if steps:
        worst = max(steps, key=lambda one: one.ratio if one.accepted else float("inf"))
        say(f"{len(steps)} outputs of single steps judged; the worst: {worst}")
    for mode in MODES:
        if (one := found.first(mode)) is not None:
            say(f"first to leave its bound, {one}")
    say(f"the picture: {compare_report.draw(run / 'compare.png', judged, found.losses, run.name)}")
    said = [f"the run {'holds' if found.run_holds else 'FAILS'}"]
    said += [f"the steps {'hold' if found.steps_hold else 'FAIL'}"] if steps else []
    say(f"{'PASS' if found.passed else 'FAIL'}: {'; '.join(said)}")
    if not found.passed and not found.walk:
        say("next: python compare.py --bisect, which names the step, its kernel and its buffer")
    return 0 if found.passed else 1


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 within the bounds, 1 not, 2 could not be compared."""
    words = sys.argv[1:] if arguments is None else arguments
    if {"-h", "--help"} & set(words):
        print(__doc__, "train.py's flags: python train.py --help", sep="\n")
        return 0
    end = next((k for k, word in enumerate(words) if word.startswith("-")), len(words))
    logs, flags = words[:end], [w for w in words[end:] if w not in ("--bisect", "--unproved")]
    if "--unproved" in words:
        start.kernels_for = training_run.unproved
    try:
        config, _ = parse([*DEFAULTS, *flags])
        if len(logs) not in (0, 2) or logs and "--bisect" in words:
            raise BadInput("command line", " ".join(words), "two logs alone, or none",
                           "python compare.py runs/A runs/B")
        found = (compare_logs(logs, config.steps) if logs
                 else compare(config, bisect="--bisect" in words))
        return report(found, config)
    except (ValueError, DeviceError) as error:
        if type(error) is ValueError:  # what we refuse has a class of its own; this is a bug
            raise
        print(f"\nerror: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
