"""Stock PyTorch training GPT-2, in float64 as the truth, and in float32 in several orders.

The float32 runs compute the same function from the same weights and tokens; only the order in which
sums are taken differs, by a change of names that no formula notices: sequences of the batch in
another order, channels and hidden units renumbered, the batch in parts, another number of threads.
How far they stray from float64 is what summation order alone does.

Where the run computes in bfloat16 the strays do too, in the two ways that PyTorch's users have:
autocast over float32 weights, and a model stored in bfloat16 (activations and the residual stream
too) with float32 master weights. On a GPU all runs are there.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import utils

from checks import torch_on_gpu
from ported.training.config import Config
from reference.programs import gpt2
from reference.stock.gpt2 import GPT2

PIECE = 1 << 14  # elements of a gradient whose squares are summed at once
State = dict[str, torch.Tensor]
Array = np.ndarray | torch.Tensor
Batch = tuple[np.ndarray, np.ndarray]  # tokens and targets, [B, T] each


@dataclass(frozen=True)
class Variation:
    """One order of summation. `parts`: micro-batches; `renumber`: a renumbering's seed, 0: none;
    `low`: "autocast" or "stored" for bfloat16, "tf32" for products of such factors."""

    name: str
    dtype: torch.dtype = torch.float32
    threads: int = 2
    shuffle: bool = False
    renumber: int = 0
    parts: int = 1
    low: str = ""


TRUTH = Variation("float64", torch.float64)
STRAYS = (
    Variation("as it is"),
    Variation("batch shuffled, one thread", shuffle=True, threads=1),
    Variation("channels renumbered", renumber=1),
    Variation("renumbered, in parts", renumber=2, shuffle=True, parts=4),
)
LOW = (
    Variation("autocast", low="autocast"),
    Variation("autocast, renumbered, in parts", renumber=2, shuffle=True, parts=4, low="autocast"),
    Variation("stored in bfloat16", low="stored"),
    Variation("stored, renumbered, in parts", renumber=1, shuffle=True, parts=2, low="stored"),
)


def strays(precision: str) -> tuple[Variation, ...]:
    """The runs that make the band of a precision."""
    if precision == "bfloat16":
        return LOW
    return tuple(replace(one, low="tf32" if precision == "tf32" else "") for one in STRAYS)


def rates(config: Config) -> list[float]:
    """The learning rate of every step, by formulas of its own: the trainer's schedules are not
    asked. A line up over the warm-up; from there on, `x` of the way, down to the floor."""
    steps, last = np.arange(config.steps), config.steps - 1
    start = config.warmup
    if config.schedule == "wsd":
        start = max(start, (last * 8) // 10)
    x = np.interp(steps, [start, last], [0, 1]) if last > start else (steps >= start) * 1.0
    share = {"cosine": np.cos(np.pi / 2 * x) ** 2, "linear": 1 - x, "constant": np.ones_like(x),
             "wsd": 1 - x**0.5}[config.schedule]
    floor = config.final_fraction
    rate = floor + (1 - floor) * share
    rising = np.linspace(0, 1, config.warmup + 1)[1:][: config.steps]
    rate[: len(rising)] = rising
    return (config.learning_rate * rate).tolist()


def renumbered(state: Mapping[str, torch.Tensor], size: gpt2.Config, seed: int,
               back: bool = False) -> State:
    """The same function with residual channels and hidden units in another order (seed 0: as is);
    `back` undoes it. LayerNorm does not mind the order of its channels, nor GELU that of its."""
    if not seed:
        return dict(state)
    draw = np.random.default_rng(seed)
    place = next(iter(state.values())).device
    channels, hidden = (torch.from_numpy(draw.permutation(n)).to(place)
                        for n in (size.C, 4 * size.C))
    if back:
        channels, hidden = torch.argsort(channels), torch.argsort(hidden)
    found = {}
    for name, tensor in state.items():
        layer = name.rsplit(".", 1)[0]
        if layer.endswith("mlp.c_fc"):
            tensor = tensor[hidden]
        if layer.endswith("c_proj") or tensor.dim() == 1 and not layer.endswith(("c_attn", "c_fc")):
            tensor = tensor[channels]
        if tensor.dim() == 2:
            into = hidden if layer.endswith("mlp.c_proj") else channels
            if not layer.endswith("attn.c_proj"):
                tensor = tensor[:, into]
        found[name] = tensor.contiguous()
    return found


class StockRun:
    """GPT2(nn.Module), torch.optim.AdamW and clip_grad_norm_, in one order of summation.

    `first` holds the gradients of the first step before clipping, by parameter.
    """

    def __init__(self, variation: Variation, config: Config, size: gpt2.Config,
                 weights: Mapping[str, np.ndarray]):
        self.variation, self.config, self.size = variation, config, size
        self.place = "cuda" if config.device == "cuda" else "cpu"
        if self.place == "cuda":
            torch_on_gpu.require()
        self.model = GPT2(size).to(self.place, variation.dtype)
        state = {name: torch.from_numpy(value) for name, value in weights.items()}
        self.model.load_state_dict(renumbered(state, size, variation.renumber))
        self.stored = variation.low == "stored"  # then it computes on a rounded copy
        self.active = copy.deepcopy(self.model).bfloat16() if self.stored else self.model
        self.optimizer = torch.optim.AdamW(
            self.model.parameter_groups(config.weight_decay), lr=config.learning_rate,
            betas=(config.beta1, config.beta2), eps=config.epsilon)
        self.draw, self.first = np.random.default_rng(0), {}

    def step(self, batch: Batch, rate: float) -> tuple[float, float]:
        """One update; (mean loss before it, gradient norm before clipping)."""
        torch.set_num_threads(self.variation.threads)
        torch.backends.cuda.matmul.allow_tf32 = self.variation.low == "tf32"
        tokens, targets = batch
        order = np.arange(len(tokens))
        if self.variation.shuffle:
            self.draw.shuffle(order)
        self.active.zero_grad(set_to_none=True)
        loss = 0.0
        for part in np.array_split(order, min(self.variation.parts, len(order))):
            words, following = (torch.from_numpy(x[part].astype(np.int64)).to(self.place)
                                for x in batch)
            share = len(part) / len(order)
            mean = self._loss(words, following)
            (mean * share).backward()
            loss += mean.item() * share
        norm = self._clipped()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self.stored:
            with torch.no_grad():
                for mine, master in zip(self.active.parameters(), self.model.parameters(),
                                        strict=True):
                    mine.copy_(master)
        return loss, norm

    def _loss(self, words: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        """The model's own; of scores in bfloat16 it is computed in float32, as autocast does."""
        if not self.stored:
            low = self.variation.low == "autocast"
            with torch.autocast(self.place, torch.bfloat16, enabled=low):
                return self.active(words, following).loss
        scores = self.active(words).logits[..., : self.size.V].flatten(0, -2).float()
        return torch.nn.functional.cross_entropy(scores, following.flatten())

    def _clipped(self) -> float:
        """clip_grad_norm_ in its two halves, the norm over pieces of every gradient: over millions
        of float32 elements at once PyTorch's sum loses small ones, 4e-4 of the norm here."""
        if self.stored:
            for mine, master in zip(self.active.parameters(), self.model.parameters(), strict=True):
                master.grad = mine.grad.float()
        if not self.first:
            self.first = self._named(
                {name: p.grad.clone() for name, p in self.model.named_parameters()})
        grads = [p.grad.view(-1) for p in self.model.parameters()]
        norm = utils.get_total_norm([piece for grad in grads for piece in grad.split(PIECE)])
        if self.config.clip:
            utils.clip_grads_with_norm_(self.model.parameters(), self.config.clip, norm)
        return norm.item()

    def _named(self, state: State) -> dict[str, Array]:
        """In GPT-2's own numbering; NumPy's arrays, on a GPU PyTorch's, which stay there."""
        back = renumbered(state, self.size, self.variation.renumber, back=True)
        return {n: t if self.place == "cuda" else t.numpy() for n, t in back.items()}

    def placed(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Array]:
        """Arrays where this run's tensors are."""
        if self.place == "cpu":
            return dict(arrays)
        return {name: torch.from_numpy(value).to(self.place) for name, value in arrays.items()}

    def tensors(self) -> dict[str, Array]:
        """Every parameter and moment, `h.0.ln_1.weight`, `h.0.ln_1.weight.m`, in GPT-2's order."""
        found: dict[str, Array] = {}
        moments = {"": lambda name, p: p.detach(),
                   ".m": lambda name, p: self.optimizer.state[p]["exp_avg"],
                   ".v": lambda name, p: self.optimizer.state[p]["exp_avg_sq"]}
        for suffix, of in moments.items():
            state = {name: of(name, p) for name, p in self.model.named_parameters()}
            found |= {name + suffix: tensor for name, tensor in self._named(state).items()}
        return found
