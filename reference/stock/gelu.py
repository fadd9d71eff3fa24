"""GELU as PyTorch's own, tanh form."""

from torch import nn
from torch.nn import functional


class GELU(nn.GELU):
    """PyTorch's GELU in the tanh form that GPT-2 was trained with."""

    def __init__(self):
        super().__init__(approximate="tanh")


def forward(inp):
    """torch.nn.functional.gelu."""
    return {"out": functional.gelu(inp, approximate="tanh")}
