"""Token and position embedding, both PyTorch's own."""

import torch
from torch import nn
from torch.nn import functional


class Embedding(nn.Embedding):
    """PyTorch's Embedding: weight [entries, C]."""


def forward(tokens, wte, wpe):
    """Two look-ups and their sum."""
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    return {"out": functional.embedding(tokens, wte) + functional.embedding(positions, wpe)}
