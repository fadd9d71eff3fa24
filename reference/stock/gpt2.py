"""GPT-2 from stock PyTorch modules, under Hugging Face's parameter names.

What differs from Hugging Face's module: weights lie as nn.Linear's [O, C] (theirs are Conv1D's
[C, O]), and the vocabulary is padded to a multiple of 128 with rows that stay zero
(`from_hugging_face` converts). Dropout is left out. Autograd does backward.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from reference.programs.gpt2 import Config, config
from reference.stock.attention import Attention
from reference.stock.embedding import Embedding
from reference.stock.gelu import GELU
from reference.stock.layernorm import LayerNorm
from reference.stock.linear import Linear

TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


class Output(NamedTuple):
    logits: torch.Tensor  # [B, T, Vp]; columns from V on are padding
    loss: torch.Tensor | None  # mean over all B*T targets, in nats


class MLP(nn.Module):
    """The feed-forward half of a block: to four times the width and back."""

    def __init__(self, C: int):
        super().__init__()
        self.c_fc = Linear(C, 4 * C)
        self.gelu = GELU()
        self.c_proj = Linear(4 * C, C)

    def forward(self, inp):
        return self.c_proj(self.gelu(self.c_fc(inp)))


class Block(nn.Module):
    """Attention and MLP, each on the normalised stream, each added to the stream."""

    def __init__(self, C: int, H: int):
        super().__init__()
        self.ln_1 = LayerNorm(C)
        self.attn = Attention(C, H)
        self.ln_2 = LayerNorm(C)
        self.mlp = MLP(C)

    def forward(self, inp):
        mid = inp + self.attn(self.ln_1(inp))
        return mid + self.mlp(self.ln_2(mid))


class GPT2(nn.Module):
    """GPT-2 of a named size, as `GPT2("gpt2")`; freshly initialised as GPT-2 was.

    `initialise` draws from torch's global generator: seed it before for equal weights.
    """

    def __init__(self, size: Config | str | int):
        super().__init__()
        self.config = c = config(size)
        self.wte = Embedding(c.Vp, c.C)
        self.wpe = Embedding(c.Tmax, c.C)
        self.h = nn.ModuleList(Block(c.C, c.H) for _ in range(c.L))
        self.ln_f = LayerNorm(c.C)
        self.initialise()

    @torch.no_grad()
    def initialise(self):
        """Normal 0.02 (Radford et al., 2019), biases 0, LayerNorm 1 and 0, padding rows 0.

        What adds to the residual stream is scaled by 1/sqrt(2L), the number of additions, so that
        the stream's variance at the end does not grow with the depth.
        """
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() == 1:
                parameter.fill_(1)
            else:
                additions = 2 * self.config.L if name.endswith("c_proj.weight") else 1
                nn.init.normal_(parameter, std=0.02 / additions**0.5)
        self.wte.weight[self.config.V :] = 0

    def forward(self, tokens, targets=None) -> Output:
        """Scores of the next word at each position of `tokens` [B, T], T <= Tmax; with `targets`
        [B, T] also the loss."""
        if tokens.shape[1] > self.config.Tmax:
            raise ValueError(
                f"GPT2: found {tokens.shape[1]} positions, expected at most {self.config.Tmax} "
                "(Tmax); pass shorter sequences"
            )
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.h:
            x = block(x)
        logits = functional.linear(self.ln_f(x), self.wte.weight)
        if targets is None:
            return Output(logits, None)
        words = logits[..., : self.config.V].flatten(0, -2)
        return Output(logits, functional.cross_entropy(words, targets.flatten().long()))

    def parameter_groups(self, weight_decay: float) -> list[dict]:
        """For torch.optim.AdamW: matrices decay, biases and LayerNorm do not."""
        matrices = [p for p in self.parameters() if p.dim() == 2]
        vectors = [p for p in self.parameters() if p.dim() == 1]
        return [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]


def from_hugging_face(state: dict, size: Config | str | int) -> dict:
    """A transformers GPT-2 state dict as GPT2's: transposed, padded with zero rows, tied."""
    c, out = config(size), {}
    for name, tensor in state.items():
        name = name.removeprefix("transformer.")
        if name == "lm_head.weight" or name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        out[name] = tensor.T.contiguous() if name.endswith(TRANSPOSED) else tensor
    wte = out["wte.weight"]
    out["wte.weight"] = torch.cat([wte, wte.new_zeros(c.Vp - len(wte), c.C)])
    return out
