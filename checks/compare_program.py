"""The program itself against stock PyTorch, in float64; and the plan of its memory.

*program*: the interpreter runs the run's program, and each buffer that stock's modules and AdamW
have too must hold what theirs does. Here the kernels do not matter: what fails is an explicit
function, the wiring, or a rewrite, and the first step that writes a wrong buffer is named. What is
overwritten before anything has read it is a fault too, whatever the values.
*plan*: no two buffers that live together may share memory, by lifetimes computed here, and scratch
is as large as the kernels ask.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from checks import golden
from checks.compare_bisect import FREE, filled, passes_of, rows
from checks.runs import Interpreted
from ported.binding import product
from ported.executor import Executor
from ported.source import DTYPES
from ported.training.config import Config
from reference.program import TRAINING, Program, Step, View
from reference.programs import gpt2
from reference.signature import signature
from reference.stock.gpt2 import GPT2

UNIT = 2.0**-53
BOTH = ("residual_backward", "residual_layernorm_backward")  # hand one gradient on to two
NARROW = 2.0**-29  # of float32's strays: as much larger is its unit
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Part:
    """Something judged that is no output of a kernel. `operation`: what is named: an operation, a
    buffer of the trainer, a part of its state."""

    mode: str
    operation: str
    place: str
    message: str = ""
    ratio: float = 0.0

    @property
    def accepted(self) -> bool:
        return not self.message

    def __str__(self) -> str:
        return f"{self.mode}: {self.operation}, {self.place}: {self.message or 'holds'}"


def stock_buffers(config: Config, size: gpt2.Config, state: Arrays) -> dict[str, np.ndarray]:
    """One step of training by stock modules in float64, by the names of the program's buffers:
    `forward/`, `backward/` (see golden.first_step) and `update/`."""
    torch.set_num_threads(1)
    model = GPT2(size).double()
    names = dict(model.named_parameters())
    model.load_state_dict({name: torch.tensor(state[name]) for name in names})
    words = state["tokens"], state["targets"]
    found = golden.first_step(model, words)
    optimizer = torch.optim.AdamW(
        model.parameter_groups(config.weight_decay), lr=state["lr"],
        betas=(config.beta1, config.beta2), eps=config.epsilon)
    for name, parameter in names.items():
        parameter.grad = torch.from_numpy(found[f"backward/{golden.gradient(name)}"]).clone()
        optimizer.state[parameter] = {
            "step": torch.tensor(float(state["t"] - 1)),
            "exp_avg": torch.tensor(state[f"{name}.m"]).double(),
            "exp_avg_sq": torch.tensor(state[f"{name}.v"]).double()}
    norm = torch.nn.utils.get_total_norm([p.grad for p in names.values()])
    scale = min(1.0, config.clip / (norm.item() + 1e-6)) if config.clip else 1.0
    for parameter in names.values():
        parameter.grad *= scale
    optimizer.step()
    found |= {"update/norm": np.array([norm.item()]), "update/scale": np.array([scale])}
    for name, parameter in names.items():
        moments = optimizer.state[parameter]
        found |= {f"update/{name}": parameter.detach().numpy(),
                  f"update/{name}.m": moments["exp_avg"].numpy(),
                  f"update/{name}.v": moments["exp_avg_sq"].numpy()}
    return found


class Named:
    """Which of stock's arrays a view of the program must equal once a step has written it."""

    def __init__(self, program: Program, stock: Arrays):
        self.program, self.stock = program, stock
        self.regions = {region: self._region(region, suffix) for region, suffix in (
            ("parameters", ""), ("master", ""), ("m", ".m"), ("v", ".v"))}

    def _region(self, region: str, suffix: str) -> np.ndarray | None:
        if region not in self.program.buffers:
            return None
        flat = np.zeros(self.program.buffers[region].size)
        for name, member in self.program.members("parameters").items():
            value = self.stock[f"update/{name}{suffix}"].reshape(-1)
            flat[member.offset : member.offset + member.size] = value
        return flat

    def of(self, name: str, step: Step, argument: str) -> np.ndarray | None:
        """Stock's rows for an output of a step of pass `name`; None where stock has none."""
        if step.op in BOTH and argument == "dinp1":
            argument = "dinp2"  # an equal one, to which LayerNorm's gradient has not been added yet
        view = step.args[argument]
        base = view.buffer.removeprefix("again.")
        if name in ("update", "norm"):
            known = self.stock.get(f"update/{base}")
            return self.regions.get(base) if known is None else known
        key = f"forward/{base}"
        if base == "dres":
            key = f"backward/{golden.gradient(self.stream(step))}"
        elif base == "logits":
            key, view = self._scores(step)
        elif f"backward/{base}" in self.stock:
            key = f"backward/{base}"
        whole = self.stock.get(key)
        if whole is None or view.start is None:
            return whole
        return whole.reshape(-1, whole.shape[-1] if whole.ndim > 1 else 1)[view.start : view.stop]

    def _scores(self, step: Step) -> tuple[str, View]:
        """`logits` may hold one chunk; another argument of the step says which rows those are."""
        if step.op == "head_forward":
            return "forward/logits", step.args["inp"]
        return "backward/dlogits", step.args["targets"]

    def stream(self, step: Step) -> str:
        """The point of the residual stream whose gradient `dres` holds after a step."""
        layer, _, norm = step.name.rpartition(".")
        if norm == "ln_2":
            return f"{layer}.res_mid"
        before = int(layer[2:]) - 1 if layer else self.program.sizes["L"] - 1
        return f"h.{before}.res_out" if before >= 0 else "embedding.out"


def _results(step: Step) -> list[str]:
    return [] if step.op == "zero" else list(signature(step.op).results)


def _final(program: Program, name: str) -> set[tuple[int, str]]:
    """(step, argument) of a pass whose rows no later step of it writes. What a buffer holds before
    that is part of a sum. `logits` and `dres` are looked at after every step."""
    last: dict[View, tuple[int, str]] = {}
    always = set()
    for k, step in enumerate(program.passes[name]):
        for argument in _results(step):
            view = step.args[argument]
            last[view] = (k, argument)
            scores = view.buffer == "logits" or step.op in BOTH
            if scores or view.buffer == "dres" and ".ln_" in f".{step.name}":
                always.add((k, argument))
    return always | {place for view, place in last.items() if view.buffer != "dres"}


def program(executor: Executor, config: Config, size: gpt2.Config, state: Arrays) -> Iterator[Part]:
    """Every buffer of the program that stock has, as its step leaves it, in float64."""
    described = executor.program
    yield from overwritten(described)
    named = Named(described, stock_buffers(config, size, state))
    runners = Interpreted(described), Interpreted(described, torch.float32)
    order = [name for name in passes_of(described) if name in ("evaluate", "sample")]
    order += [name for name in passes_of(described) if name not in order]
    for each in runners:
        filled(each, state)
    for name in order:
        judged = _final(described, name)
        for k, step in enumerate(described.passes[name]):
            for each in runners:
                each.step(step)
            for argument in _results(step):
                expected = named.of(name, step, argument)
                if (k, argument) in judged and expected is not None:
                    yield _held(described, runners, (name, k), argument, expected)


def _held(described: Program, runners, place: tuple[str, int], argument: str,
          expected: np.ndarray) -> Part:
    step = described.passes[place[0]][place[1]]
    view = step.args[argument]
    value, narrow = (rows(described, each.read(view.buffer), view).reshape(-1).astype(np.float64)
                     for each in runners)
    expected = expected.reshape(-1)[: value.size]  # of a sample's pass: the first sequence
    error, norm = np.linalg.norm(value - expected), np.linalg.norm(expected)
    allowed = FREE * (NARROW * np.linalg.norm(narrow - value) + UNIT * norm)
    where = f"pass {place[0]}, step {place[1]}, {step.name}, buffer {view}"
    if error == 0 or error <= allowed:
        return Part("program", step.op, where, ratio=float(error / allowed) if error else 0.0)
    return Part("program", step.op, where, f"found a relative L2 error of {error / (norm or 1):.3g}"
                f" against stock, expected at most {allowed / (norm or 1):.3g}", float("inf"))


def overwritten(described: Program) -> Iterator[Part]:
    """Rows of a buffer that a step clears or overwrites although the step of the same pass that
    wrote them was read by none."""
    for name, steps in described.passes.items():
        unread: dict[View, Step] = {}
        for k, step in enumerate(steps):
            reads = step.reads()
            for view in [v for v in unread if any(_meet(described, v, read) for read in reads)]:
                del unread[view]
            for view in step.writes():
                lost = next((v for v in unread if _meet(described, v, view)), None)
                if lost is not None and view not in reads:
                    yield Part("program", step.op, f"pass {name}, step {k}, {step.name}, buffer "
                               f"{view}", f"overwrites what {unread[lost]} left there, which "
                               "nothing has read", float("inf"))
                unread[view] = step


def _meet(described: Program, a: View, b: View) -> bool:
    if a.buffer != b.buffer:
        return False
    whole = described.buffers[a.buffer].rows[0]
    (low, high), (start, stop) = ((0, whole) if v.start is None else (v.start, v.stop)
                                  for v in (a, b))
    return low < stop and start < high


def plan(executor: Executor) -> Iterator[Part]:
    """Pairs of activations that live together and overlap in memory; scratch that is too small."""
    described, found = executor.program, executor.plan
    sequences = [[name for name in TRAINING if name in described.passes]]
    sequences += [[name] for name in described.passes if name not in TRAINING]
    for sequence in sequences:
        yield from _clashes(described, found, sequence)
    for name in passes_of(described):
        for k, bound in enumerate(executor.steps(name)):
            if bound.choice:
                yield from _scratch(executor, (name, k), bound)
    yield Part("plan", "plan", f"{len(found.offsets)} buffers")


def _clashes(described: Program, found, sequence: list[str]) -> Iterator[Part]:
    lives: dict[str, list[int]] = {}
    times = [(name, k) for name in sequence for k in range(len(described.passes[name]))]
    for time, (name, k) in enumerate(times):
        step = described.passes[name][k]
        for view in [*step.reads(), *step.writes()]:
            if described.buffers[view.buffer].kind == "activation":
                lives.setdefault(view.buffer, [time, time])[1] = time
    results = {result for name in sequence for result in described.results.get(name, ())}
    for result in results & lives.keys():
        lives[result][1] = len(times) - 1
    names = list(lives)
    first, last = np.array(list(lives.values())).T.reshape(2, -1)
    start = np.array([found.offsets[name] for name in names])
    stop = start + np.array([found.nbytes_of[name] for name in names])
    both = ((first[:, None] <= last) & (first <= last[:, None])
            & (start[:, None] < stop) & (start < stop[:, None]))
    for i, j in np.argwhere(np.triu(both, 1)):
        handed = last[i] == first[j] or last[j] == first[i]
        if not (handed and names[i] in found.shared | {v: k for k, v in found.shared.items()}):
            at = times[max(first[i], first[j])]
            yield Part("plan", "plan", f"pass {at[0]}, step {at[1]}", f"{names[i]} and {names[j]} "
                       "live together and share memory", float("inf"))


def _scratch(executor: Executor, place: tuple[str, int], bound) -> Iterator[Part]:
    kernel = executor.device.load(bound.choice.version, bound.contract, bound.axes,
                                  bound.choice.parameters)
    offsets = executor.plan.scratch.get(place, {})
    sizes = {item.name: item.nbytes for item in executor.plan.items}
    for part, (dtype, shape, _) in kernel.scratch.items():
        wanted, had = DTYPES[dtype] * product(shape), sizes.get(
            f"{place[0]} {place[1]} scratch {part}", 0)
        if part not in offsets or had < wanted:
            yield Part("plan", "plan", f"{bound}, scratch {part}",
                       f"found {had} bytes, expected {wanted}", float("inf"))
