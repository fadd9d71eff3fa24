"""What can be compared: the ported trainer as it runs, or the log of one that has run."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from ported.evidence import Choice
from ported.executor import Executor, contracts_of, wanted
from ported.source import Version
from ported.training import hugging_face, start, weights
from ported.training.config import Config
from ported.training.data import open_data
from ported.training.loader import Loader
from ported.training.tensor_files import Tensors
from reference.builder import gradient
from reference.programs import gpt2
from train import Trainer

Say = Callable[[str], None]


def loader(config: Config, say: Say, V: int) -> Loader:
    """train.py's, over the training tokens."""
    tokens, _ = open_data(config, say, V)
    return Loader(tokens, config.seed, only=config.batch if config.overfit else 0)


def first_weights(config: Config, size: gpt2.Config) -> dict[str, np.ndarray]:
    """The weights that train.py would begin with, by name."""
    shapes = gpt2.parameters(size)
    if config.init_from:
        found: dict[str, np.ndarray] = {}
        held = Tensors(shapes, found.__getitem__, found.__setitem__)
        hugging_face.read(Path(config.init_from), held, size.V)
        return found
    return {name: weights.initial(name, shape, config.seed, size.L, size.V)
            for name, shape in shapes.items()}


def next_state(config: Config, truth, data: Loader) -> dict:
    """What buffers hold before the step that follows, by the truth: the steps' inputs are real, but
    for one word that is sure to come several times."""
    B, T = config.micro, config.sequence_length
    tokens, targets = (part[:B].copy() for part in data.next(config.batch))
    tokens[:, ::5] = tokens[0, 0]
    learned = {name: np.asarray(torch.as_tensor(value).cpu())
               for name, value in truth.tensors().items()}
    return {**learned, "tokens": tokens, "targets": targets, "dscale": 1 / (B * T),
            "lr": config.learning_rate, "t": config.steps + 1}


class Ported:
    """The ported trainer: train.py's own, on its own loader.

    `kernels`, by contract name, go before what evidence chooses and are not asked for a proof.
    """

    def __init__(self, config: Config, first: Mapping[str, np.ndarray],
                 kernels: Mapping[str, Version], say: Say):
        self.begun = start.begin(config, {})
        device = start.open_device(self.begun)
        self.program, _ = start.program_for(self.begun, device)
        self.executor = Executor(self.program, device, self._choices(device, kernels, say),
                                 plain=config.plain)
        self.held = start.tensors(self.executor)
        self.first: dict[str, np.ndarray] = {}
        for name, value in first.items():
            self.held[0].write(name, value)
        self.executor.write("dscale", 1 / (config.batch * config.sequence_length))
        mine = loader(config, say, self.begun.size.V)
        self.trainer = Trainer(config, self.executor, mine, mine.tokens, self.begun)

    def _choices(self, device, given: Mapping[str, Version], say: Say) -> dict[str, Choice]:
        needs = wanted(self.program, contracts_of(self.program))
        mine = {key: Choice(given[name], given[name].configurations()[0])
                for key, (name, _, _) in needs.items() if name in given}
        if len(mine) == len(needs):
            return mine
        chosen, _ = start.kernels_for(self.program, device, self.begun, say)
        return {**chosen, **mine}

    def step(self, number: int, rate: float) -> tuple[float, float]:
        """The next step; (loss, gradient norm)."""
        found = self.trainer.gradients()
        if not self.first:
            self.first = {name: self.executor.read(gradient(name))
                          for name in self.program.members("parameters")}
        self.trainer.update(rate)
        return found

    def tensors(self) -> dict[str, np.ndarray]:
        """Every parameter and moment by name; on the cpu the memory itself. Of parameters that have
        float32 masters, those."""
        if self.executor.device.name == "cpu":
            return {name: self.executor.buffer(name) for region in ("parameters", "m", "v")
                    for name in self.program.members(region)}
        return {name: held.read(name) for held in self.held for name in held.shapes}


class Logged:
    """A run that is over: losses and norms from its log, no tensors."""

    def __init__(self, records: list[dict]):
        self.rows = [record for record in records if "loss" in record]

    def step(self, number: int, rate: float) -> tuple[float, float]:
        return self.rows[number]["loss"], self.rows[number]["norm"]
