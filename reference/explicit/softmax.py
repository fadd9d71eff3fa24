"""Softmax: a row of scores to a row of probabilities.

    p_i = exp(x_i - s) / sum_j exp(x_j - s)           for any s; taken is s = max_j x_j

s cancels, and with the maximum no exponential overflows while the sum is at least 1. The same
numbers, written with the row's log-sum-exp, which `cross_entropy` and `attention` save:

    lse = s + log sum_j exp(x_j - s)                  p_i = exp(x_i - lse)

Backward. Differentiating p_j = exp(x_j - lse), with d lse / d x_i = p_i:

    d p_j / d x_i = p_j (1[i=j] - p_i)
    dx_i = sum_j g_j p_j (1[i=j] - p_i) = p_i (g_i - sum_j g_j p_j)

that is, each g_i against the mean of g under p. The parts of dx sum to zero, as they must: adding a
constant to all scores changes nothing. Backward needs the output only, so `out` is what is saved.

Source: Bridle, "Probabilistic Interpretation of Feedforward Classification Network Outputs", 1990;
the shift by the maximum is analysed in Blanchard, Higham, Higham, "Accurately computing the
log-sum-exp and softmax functions", IMA J. Numer. Anal. 41, 2021.
"""

from typing import NamedTuple

import torch

from reference.shapes import F


class Forward(NamedTuple):
    out: F["N C"]


class Backward(NamedTuple):
    dinp: F["N C"]


def log_sum_exp(scores: torch.Tensor) -> torch.Tensor:
    """log of the sum of exponentials over the last axis, which disappears."""
    largest = scores.amax(-1, keepdim=True)
    return (largest + torch.exp(scores - largest).sum(-1, keepdim=True).log()).squeeze(-1)


def forward(inp: F["N C"]) -> Forward:
    """Probabilities of each row of `inp` [N, C]."""
    weights = torch.exp(inp - inp.amax(1, keepdim=True))
    return Forward(weights / weights.sum(1, keepdim=True))


def backward(dout: F["N C"], out: F["N C"]) -> Backward:
    """From the output `out` [N, C] alone."""
    return Backward(out * (dout - (dout * out).sum(1, keepdim=True)))
