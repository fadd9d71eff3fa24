"""Small training runs for checks: kernels by a rule, weights, tokens, interpreter and executor."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from ported import executor, source
from ported.evidence import Choice
from ported.executor import Executor
from ported.precision import FLOAT32, Precision
from ported.source import Version
from reference import interpreter
from reference.program import Program, Step
from reference.programs.gpt2 import Config
from reference.stock.gpt2 import GPT2

Pick = Callable[[list[Version]], Version]
RULES: dict[str, Pick] = {"first": lambda fit: fit[0], "last": lambda fit: fit[-1]}


def kernels(program: Program, device, rule: str = "last",
            given: Mapping[str, Version] | None = None) -> dict[str, Choice]:
    """For every shape a version that applies: `given` by contract name, or the rule's."""
    ladder: dict[str, list[Version]] = {}
    for version in source.read_all(language=device.language).values():
        ladder.setdefault(version.contract_name, []).append(version)
    ladder |= {name: [version] for name, version in (given or {}).items()}
    found, contracts = {}, executor.contracts_of(program)
    for key, (name, axes, _) in executor.wanted(program, contracts).items():
        fit = []
        for version in ladder[name]:
            parameters = version.configurations()[0]
            if version.language != "py" and version.supports(
                    device.precision, contracts[name].roles) and not version.unmet_needs(
                    {**axes, **parameters, **device.values}):
                fit.append(version)
        version = RULES[rule](fit)
        found[key] = Choice(version, version.configurations()[0])
    return found


def weights(size: Config | str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Parameters in which nothing is trivial: biases and LayerNorm weights are random too. Float32
    numbers in float64, so that both precisions start from the same."""
    torch.manual_seed(seed)
    state = GPT2(size).state_dict()
    for tensor in state.values():
        if tensor.dim() == 1:
            tensor += 0.1 * torch.randn_like(tensor)
    return {name: tensor.double() for name, tensor in state.items()}


def batches(program: Program, count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random (tokens [B, T], targets [N]); an eighth of the tokens repeat one word."""
    draw = np.random.default_rng(seed)
    B, T, V = (program.sizes[axis] for axis in "BTV")
    found = []
    for _ in range(count):
        words = draw.integers(0, V, (B, T + 1), dtype=np.int32)
        words[draw.random((B, T + 1)) < 0.125] = V // 2
        found.append((words[:, :-1].copy(), words[:, 1:].reshape(-1).copy()))
    return found


class Interpreted:
    """The interpreter behind the executor's interface: `write`, `read`, `run`. What `precision`
    holds in bfloat16 is rounded whenever it is stored."""

    def __init__(self, program: Program, dtype: torch.dtype = torch.float64,
                 precision: Precision = FLOAT32):
        self.program, self.tensors = program, interpreter.allocate(program, dtype)
        self.dtypes = precision.dtypes

    def write(self, name: str, array) -> None:
        target = self.tensors[name]
        target.copy_(torch.as_tensor(np.asarray(array)).reshape(target.shape))
        self.rounded(name)

    def rounded(self, name: str) -> None:
        """Rounds a buffer as its dtype does."""
        if self.dtypes[self.program.buffers[name].role] == "bfloat16":
            self.tensors[name].copy_(self.tensors[name].bfloat16())

    def step(self, step: Step) -> None:
        """One step, computed and stored."""
        interpreter.store(step, interpreter.compute(self.program, step, self.tensors), self.tensors)
        for view in step.writes():
            self.rounded(view.buffer)

    def read(self, name: str) -> np.ndarray:
        return self.tensors[name].numpy().copy()

    def run(self, name: str) -> None:
        for step in self.program.passes[name]:
            self.step(step)


Runner = Interpreted | Executor


def load(runner: Runner, state: Mapping[str, torch.Tensor]) -> None:
    """Parameters by name, and their masters, into either kind of runner; optimizer state and
    gradients to zero."""
    for name, tensor in state.items():
        for each in {name, f"{name}.master"} & runner.program.buffers.keys():
            runner.write(each, tensor.numpy())
    for name in ("gradients", "m", "v"):
        runner.write(name, np.zeros(runner.program.buffers[name].shape))


def train_step(runner: Runner, micro: list[tuple[np.ndarray, np.ndarray]], t: int,
               lr: float) -> float:
    """One update over micro-batches; the mean loss before it."""
    N = runner.program.sizes["N"]
    runner.run("zero")
    runner.write("dscale", 1 / (N * len(micro)))
    losses = []
    for tokens, targets in micro:
        runner.write("tokens", tokens)
        runner.write("targets", targets)
        runner.run("forward")
        runner.run("backward")
        losses.append(runner.read("losses").astype(np.float64).mean())
    runner.write("lr", lr)
    runner.write("t", t)
    runner.run("update")
    return float(np.mean(losses))
