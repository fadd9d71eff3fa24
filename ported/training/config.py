"""Every flag of train.py, once: a frozen dataclass that gives command line, checks and records.

A field's metadata says its help, its limits and two facts about recording:
`place`   the flag says where a run lies, not what it computes: left out of log and checkpoint, so
          that the same training in two folders leaves the same bytes.
`later`   the flag may change when a run is resumed (the others decide the numbers already logged).
"""

import argparse
import dataclasses
import difflib
import json
import math
import operator
from dataclasses import dataclass
from typing import Any, NoReturn

from ported.device import NAMES
from ported.precision import PRECISIONS
from ported.training.errors import BadInput
from ported.training.schedules import SCHEDULES

HELP = "python train.py --help lists every flag"
SECTIONS = {  # the field that opens a section of --help: its title
    "model": "where to start",
    "data": "data",
    "steps": "optimisation",
    "eval_every": "validation and samples",
    "checkpoint_every": "what a run leaves behind",
    "device": "machine and kernels",
}

LIMITS = {
    "least": ("at least", operator.ge), "above": ("above", operator.gt),
    "most": ("at most", operator.le), "below": ("below", operator.lt),
}


def flag(default: Any, help: str, **facts: Any) -> Any:
    """A field with its help and facts: limits, choices, place, later."""
    return dataclasses.field(default=default, metadata={"help": help, **facts})


@dataclass(frozen=True)
class Config:
    """One training run. Names are the flags with _ for -; every default stands here alone."""

    model: str = flag("tiny", "size: test, tiny, gpt2, gpt2-medium, -large, -xl, or depth (d12)")
    init_from: str = flag("", "Hugging Face GPT-2 folder, or checkpoint, whose weights to take")
    resume: str = flag("", "run folder or checkpoint to continue exactly", place=True)

    data: str = flag("", "text file, token file, or quoted glob; empty: the King James Bible")
    val_data: str = flag("", "the same for validation; empty: a part of the text held out")
    val_fraction: float = flag(0.05, "share of the text held out", above=0.0, most=0.5)
    sequence_length: int = flag(64, "tokens in a sequence, T", least=1)
    batch: int = flag(8, "sequences in a step", least=1)
    micro_batch: int = flag(0, "sequences at a time, divides --batch; 0: all", least=0)
    overfit: bool = flag(False, "train on the first batch alone, to see its loss go to zero")

    steps: int = flag(1000, "updates to make; -1: once through the data", least=-1, later=True)
    learning_rate: float = flag(1e-3, "its peak", above=0.0)
    schedule: str = flag("cosine", "how the learning rate falls", choices=tuple(SCHEDULES))
    warmup: int = flag(20, "steps over which the learning rate rises", least=0)
    final_fraction: float = flag(0.1, "last learning rate over the peak", least=0.0, most=1.0)
    beta1: float = flag(0.9, "AdamW's decay of the mean", least=0.0, below=1.0)
    beta2: float = flag(0.95, "AdamW's decay of the mean square", least=0.0, below=1.0)
    epsilon: float = flag(1e-8, "AdamW's epsilon", above=0.0)
    weight_decay: float = flag(0.1, "decoupled decay of matrices", least=0.0)
    clip: float = flag(1.0, "largest gradient norm let through; 0: any", least=0.0)
    skip_loss: float = flag(0.0, "skip updates with a loss of higher z-score; 0: none", least=0.0)
    skip_norm: float = flag(0.0, "the same for the gradient norm", least=0.0)
    outlier_window: int = flag(128, "steps that make a z-score; none is skipped before", least=2)
    seed: int = flag(1337, "of weights, data order and samples", least=0, most=2**63 - 1)

    eval_every: int = flag(100, "steps between; 0: first and last only", least=0, later=True)
    eval_sequences: int = flag(32, "sequences each time; 0: all there are", least=0, later=True)
    sample_every: int = flag(0, "steps between samples; 0: last only", least=0, later=True)
    sample_tokens: int = flag(48, "tokens of a sample; 0: no samples", least=0, later=True)
    prompt: str = flag("In the beginning", "text that a sample continues", later=True)
    temperature: float = flag(0.8, "of samples; 0: the likeliest token", least=0.0, later=True)
    top_k: int = flag(40, "sample among so many tokens; 0: all", least=0, later=True)

    checkpoint_every: int = flag(250, "steps between; 0: last only", least=0, later=True)
    keep: int = flag(2, "checkpoints kept; 0: all", least=0, later=True)
    out: str = flag("runs", "folder in which each run gets a new one", place=True)
    name: str = flag("", "after the date in the run's name; empty: what it began with", place=True)
    curve: bool = flag(True, "draw the loss curve", later=True)

    device: str = flag("cpu", "where kernels run", choices=NAMES)
    dtype: str = flag("auto", "of activations and parameters; auto: bfloat16 on cuda, else float32",
                      choices=("auto", *PRECISIONS))
    master: bool = flag(True, "with bfloat16: AdamW keeps float32 weights beside the rounded ones")
    rounding: str = flag("nearest", "of bfloat16 weights after a step, without --master",
                         choices=("nearest", "stochastic"))
    threads: int = flag(0, "threads of a kernel on the cpu; 0: one a core", least=0)
    use: str = flag("", "versions chosen by hand: layernorm_forward_02,gelu_forward_03")
    relock: bool = flag(False, "with --resume: choose kernels anew, not bit for bit", place=True)
    fuse: str = flag("auto", "fused operations: auto (those that pay on the device), all, none, or "
                     "names of reference.rewrites")
    head_chunks: int = flag(0, "parts of the logits, one at a time; 0: by size", least=0)
    recompute: str = flag("none", "what backward computes again: gelu, ln, layer, or globs")
    plain: bool = flag(False, "wait after each step of the program, to name one that fails; slow",
                       place=True)

    @property
    def micro(self) -> int:
        """Sequences in a micro-batch, B."""
        return self.micro_batch or self.batch

    @property
    def accumulate(self) -> int:
        """Micro-batches in a step, K."""
        return self.batch // self.micro

    @property
    def precision(self) -> str:
        """The run's precision by name (see ported.precision)."""
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if self.device == "cuda" else "float32"

    @property
    def masters(self) -> bool:
        """Whether the optimizer's weights are kept apart from those that are computed with."""
        return self.master and self.precision == "bfloat16"

    def problems(self) -> list[tuple[str, str, str]]:
        """Every offence as (flag, found, expected): each field's limits, then what joins fields."""
        fields = dataclasses.fields(self)
        found = [p for f in fields for p in _limits(f, getattr(self, f.name))]
        if self.micro_batch > 0 and self.batch % self.micro_batch:
            near = _near_divisors(self.batch, self.micro_batch)
            wanted = f"a divisor of --batch {self.batch}, as {near}"
            found.append(("micro_batch", str(self.micro_batch), wanted))
        if self.device == "cpu" and self.precision != "float32":
            found.append(("dtype", self.dtype, "float32, which is all that the cpu's kernels have; "
                          "--device cuda has the others"))
        if self.rounding != "nearest" and (self.precision != "bfloat16" or self.master):
            found.append(("rounding", self.rounding, "nearest: only bfloat16 weights without "
                          "masters are rounded at random; --dtype bfloat16 --no-master has them"))
        if self.resume and self.init_from:
            found.append(("init_from", self.init_from, "nothing beside --resume"))
        return found

    def check(self) -> "Config":
        """This configuration, or a BadInput that names every offending flag."""
        _refuse(self.problems())
        return self

    def record(self) -> dict[str, Any]:
        """What log and checkpoint keep: every flag but those of place."""
        fields = dataclasses.fields(self)
        return {f.name: getattr(self, f.name) for f in fields if not f.metadata.get("place")}

    @staticmethod
    def from_record(record: dict[str, Any], where: object = "configuration") -> "Config":
        """The inverse of `record`. Flags that a newer version added take their defaults."""
        known = {f.name: f for f in dataclasses.fields(Config)}
        wrong = [(name, json.dumps(value), "a known flag") for name, value in record.items()
                 if name not in known]
        wrong += [(name, json.dumps(value), known[name].type.__name__)
                  for name, value in record.items()
                  if name in known and not _is(value, known[name].type)]
        if wrong:
            raise BadInput(where, _lines(wrong), "a configuration that train.py wrote", HELP)
        return Config(**record)

    def resumed(self, given: dict[str, Any], where: object) -> "Config":
        """This (a checkpoint's) configuration with the flags `given` now on the command line.

        Only flags of place and those marked `later` may differ from what the run began with.
        """
        fields = {f.name: f for f in dataclasses.fields(self)}
        wrong = [(name, str(value), f"{getattr(self, name)!r}, as the run began")
                 for name, value in given.items()
                 if value != getattr(self, name)
                 and not (fields[name].metadata.get("place") or fields[name].metadata.get("later"))]
        if wrong:
            raise BadInput(f"--resume {where}", _lines(wrong), "the flags that the run began with",
                           "leave these flags out, or begin a new run without --resume")
        return dataclasses.replace(self, **given).check()


def parse(arguments: list[str] | None = None) -> tuple[Config, dict[str, Any]]:
    """The command line as (configuration, the flags that were given). `None`: sys.argv.

    Raises BadInput naming every unknown flag, unreadable value and broken limit at once.
    """
    namespace, unknown = _parser().parse_known_args(arguments)
    raw = {name: value for name, value in vars(namespace).items() if value is not None}
    given, wrong = {}, [_unknown(word) for word in unknown if word.startswith("-")]
    wrong += [(word, "stands alone", "a flag before it") for word in unknown if word[:1] != "-"]
    for field in dataclasses.fields(Config):
        if field.name not in raw:
            continue
        try:
            given[field.name] = _read(field.type, raw[field.name])
        except ValueError:
            wrong.append((field.name, repr(raw[field.name]), _KINDS[field.type]))
    config = Config(**given)
    _refuse(wrong + config.problems())
    return config, given


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "yes or no"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput("command line", message, "flag and value", HELP)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="train.py", allow_abbrev=False, usage="python train.py [--flag value ...]",
        description="Train GPT-2 with proved kernels. Every flag has a default; none is needed.")
    group = parser
    for field in dataclasses.fields(Config):
        if field.name in SECTIONS:
            group = parser.add_argument_group(SECTIONS[field.name])
        name, facts = "--" + field.name.replace("_", "-"), field.metadata
        about = facts["help"]
        if "choices" in facts:
            about += ": " + ", ".join(facts["choices"])
        about = f"{about} (default: {_shown(field.default)})".replace("%", "%%")
        if field.type is bool:
            group.add_argument(name, action=argparse.BooleanOptionalAction, help=about)
        else:
            group.add_argument(name, metavar=field.type.__name__, help=about)
    return parser


def _shown(value: Any) -> str:
    return "empty" if value == "" else str(value)


def _read(kind: type, text: Any) -> Any:
    if kind is int and isinstance(text, str):
        return int(text.replace("_", ""))
    return kind(text)


def _is(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind


def _limits(field: dataclasses.Field, value: Any) -> list[tuple[str, str, str]]:
    facts, wanted = field.metadata, []
    if field.type is float and not math.isfinite(value):
        return [(field.name, str(value), "a finite number")]
    if "choices" in facts and value not in facts["choices"]:
        near = difflib.get_close_matches(str(value), facts["choices"], 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        wanted.append("one of " + ", ".join(facts["choices"]) + hint)
    wanted += [f"{words} {facts[key]}" for key, (words, holds) in LIMITS.items()
               if key in facts and not holds(value, facts[key])]
    return [(field.name, str(value), " and ".join(wanted))] if wanted else []


def _near_divisors(batch: int, wanted: int) -> str:
    divisors = [d for d in range(1, batch + 1) if batch % d == 0]
    near = sorted(sorted(divisors, key=lambda d: abs(d - wanted))[:4])
    return ", ".join(map(str, near))


def _unknown(word: str) -> tuple[str, str, str]:
    names = ["--" + f.name.replace("_", "-") for f in dataclasses.fields(Config)]
    near = difflib.get_close_matches(word.split("=")[0], names, 1)
    return word.split("=")[0], "no such flag", f"perhaps {near[0]}" if near else "a known flag"


def _lines(wrong: list[tuple[str, str, str]]) -> str:
    known = {f.name for f in dataclasses.fields(Config)}
    spelled = {name: "--" + name.replace("_", "-") for name in known}
    return "\n".join(f"{spelled.get(name, name)} {found} (expected {wanted})"
                     for name, found, wanted in wrong)


def _refuse(wrong: list[tuple[str, str, str]]) -> None:
    if wrong:
        raise BadInput("command line", _lines(wrong), "flags within their limits", HELP)
