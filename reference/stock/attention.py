"""Causal self-attention by PyTorch's scaled_dot_product_attention."""

import torch
from torch import nn
from torch.nn import functional

from reference.stock.linear import Linear


class Attention(nn.Module):
    """GPT-2's attention with its two products, named as in Hugging Face's checkpoints."""

    def __init__(self, C: int, H: int):
        super().__init__()
        self.H = H
        self.c_attn = Linear(C, 3 * C)
        self.c_proj = Linear(C, C)

    def forward(self, inp):
        """Rows [B, T, C] to rows [B, T, C]."""
        q, k, v = heads(self.c_attn(inp), self.H)
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(out.transpose(1, 2).reshape(inp.shape))


def heads(qkv, H):
    """Packed [B, T, 3*H*D] as q, k, v of [B, H, T, D] each."""
    B, T, width = qkv.shape
    return qkv.view(B, T, 3, H, width // (3 * H)).permute(2, 0, 3, 1, 4)


def forward(qkv, H):
    """scaled_dot_product_attention, and each row's log-sum-exp beside it."""
    q, k, v = heads(qkv, H)
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * q.shape[-1] ** -0.5
    seen = torch.tril(torch.ones_like(scores[0, 0], dtype=torch.bool))
    lse = torch.logsumexp(torch.where(seen, scores, -torch.inf), -1)
    return {"out": out.transpose(1, 2).reshape(*qkv.shape[:2], -1), "lse": lse}
