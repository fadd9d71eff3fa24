"""Cross-entropy: how surprised the model is by the word that came, in nats.

Forward, for one row x of scores with target y, over the V words there are:

    p_i  = exp(x_i - lse)                             the softmax, lse = log sum_{j<V} exp(x_j)
    loss = -log p_y = lse - x_y

Written as lse - x_y it takes no logarithm of a probability that may have rounded to zero. Columns
V..Vp-1 exist only so that the row is a multiple of 128 long: they take no part.

Backward. With d lse / d x_i = p_i:

    d loss / d x_i = p_i - 1[i=y]                     dlogits_i = dloss * (p_i - 1[i=y])

the probability given minus the probability that would have been right; a row's parts sum to zero.
Padding columns receive zero.

Why `lse` is saved: one number a row, and with it backward is one pass over the scores. The
probabilities themselves would be as large as the logits, the largest tensor of the model.

Source: the loss is maximum likelihood; softmax with it and its gradient e.g. in Bishop, "Pattern
Recognition and Machine Learning", 2006, section 4.3.4.
"""

from typing import NamedTuple

import torch

from reference.explicit.softmax import log_sum_exp
from reference.shapes import F32, I32, Axis, F


class Forward(NamedTuple):
    losses: F32["N"]
    lse: F32["N"]


class Backward(NamedTuple):
    dlogits: F["N Vp"]


def forward(logits: F["N Vp"], targets: I32["N"], V: Axis) -> Forward:
    """Loss of each row of `logits` [N, Vp] at `targets` [N], each from 0 to V-1."""
    lse = log_sum_exp(logits[:, :V])
    rows = torch.arange(len(targets), device=logits.device)
    return Forward(lse - logits[rows, targets], lse)


def backward(
    dlosses: F32["N"], logits: F["N Vp"], targets: I32["N"], lse: F32["N"], V: Axis
) -> Backward:
    """Gradient of the scores; zero in the padding columns."""
    rows = torch.arange(len(targets), device=logits.device)
    dlogits = torch.zeros_like(logits)
    dlogits[:, :V] = torch.exp(logits[:, :V] - lse[:, None])
    dlogits[rows, targets] -= 1
    return Backward(dlogits * dlosses[:, None])
