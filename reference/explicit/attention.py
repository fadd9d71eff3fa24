"""Causal self-attention of many heads, on packed queries, keys and values.

The last axis of `qkv` holds all queries, then all keys, then all values; inside each, head h has
channels h*D to (h+1)*D. Heads never meet here, so take one head of one sequence, with q, k, v, o of
T rows and D channels. Forward:

    s_ij = (q_i . k_j) / sqrt(D)          for j <= i: position i sees itself and what lies before
    p_ij = exp(s_ij - lse_i)              softmax over j;  lse_i = log sum_{j<=i} exp(s_ij)
    o_i  = sum_j p_ij v_j

The scale keeps scores of unit-variance q and k at unit variance, whatever D is.

Backward. With g = dout, first through the weighted sum, a matrix product:

    dv_j  = sum_i p_ij g_i
    dp_ij = g_i . v_j

then through the softmax of each row (see `softmax`):

    ds_ij = p_ij (dp_ij - delta_i)        delta_i = sum_j p_ij dp_ij

and through the scores, again a product:

    dq_i = sum_j ds_ij k_j / sqrt(D)
    dk_j = sum_i ds_ij q_i / sqrt(D)

p is 0 where j > i, so the mask needs no backward of its own.

Why `lse` is saved and p is not: p has T*T numbers a head, lse has T, and p_ij = exp(s_ij - lse_i)
comes back from q and k with no second reduction over the row. Why `out` is read again: delta_i is a
sum over a whole row of p, but

    delta_i = sum_j p_ij (g_i . v_j) = g_i . sum_j p_ij v_j = g_i . o_i

needs D products and no row. So backward can visit the scores in tiles, in any order, keeping none:
memory grows with T although time grows with T*T. This page's own code does keep the T*T matrices,
to be read; the kernels need not.

Source: Vaswani et al., "Attention Is All You Need", 2017 (arXiv:1706.03762), section 3.2.
Recomputation and delta: Dao, Fu, Ermon, Rudra, Re, "FlashAttention", 2022 (arXiv:2205.14135),
appendix B; lse as what is saved: Dao, "FlashAttention-2", 2023 (arXiv:2307.08691); the running
log-sum-exp: Milakov, Gimelshein, 2018 (arXiv:1805.02867).
"""

from math import sqrt
from typing import NamedTuple

import torch

from reference.explicit.softmax import log_sum_exp
from reference.shapes import F32, Axis, F

# Operations of the products, two a multiply-add (causal: half the square).
FLOPS = {"forward": "2*B*H*T*(T + 1)*D", "backward": "5*B*H*T*(T + 1)*D"}


class Forward(NamedTuple):
    out: F["B T H*D"]
    lse: F32["B H T"]


class Backward(NamedTuple):
    dqkv: F["B T 3*H*D"]


def split_heads(packed: torch.Tensor, H: int) -> torch.Tensor:
    """[B, T, H*D] seen as [B, H, T, D]."""
    return packed.unflatten(2, (H, -1)).transpose(1, 2)


def merge_heads(heads: torch.Tensor) -> torch.Tensor:
    """[B, H, T, D] back to [B, T, H*D]."""
    return heads.transpose(1, 2).flatten(2)


def masked_scores(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Scaled products [B, H, T, T], minus infinity where the key lies after the query."""
    T, D = q.shape[-2:]
    future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
    return (q @ k.mT / sqrt(D)).masked_fill(future, -torch.inf)


def forward(qkv: F["B T 3*H*D"], H: Axis) -> Forward:
    """Attention's output [B, T, H*D] and each query's log-sum-exp [B, H, T]."""
    q, k, v = (split_heads(part, H) for part in qkv.chunk(3, 2))
    scores = masked_scores(q, k)
    lse = log_sum_exp(scores)
    p = torch.exp(scores - lse[..., None])
    return Forward(merge_heads(p @ v), lse)


def backward(
    dout: F["B T H*D"], qkv: F["B T 3*H*D"], out: F["B T H*D"], lse: F32["B H T"], H: Axis
) -> Backward:
    """Gradient of queries, keys and values, packed as they came [B, T, 3*H*D]."""
    q, k, v = (split_heads(part, H) for part in qkv.chunk(3, 2))
    dout, out = split_heads(dout, H), split_heads(out, H)
    p = torch.exp(masked_scores(q, k) - lse[..., None])
    delta = (dout * out).sum(-1, keepdim=True)
    dscores = p * (dout @ v.mT - delta) / sqrt(q.shape[-1])
    parts = dscores @ k, dscores.mT @ q, p.mT @ dout
    return Backward(torch.cat([merge_heads(part) for part in parts], 2))
