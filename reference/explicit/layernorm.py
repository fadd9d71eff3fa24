"""LayerNorm: every row to mean 0 and variance 1, then scaled and shifted by learned vectors.

Forward, for one row x of C channels (biased variance, as in the paper):

    mean = (1/C) sum_i x_i
    rstd = 1 / sqrt((1/C) sum_i (x_i - mean)^2 + eps)
    n_i  = (x_i - mean) * rstd                          the normalised row
    out_i = weight_i * n_i + bias_i

Backward. Write g = dout for the gradient that arrives. Each row used `weight` and `bias` once, so
their gradients are sums over rows:

    dbias_i   = sum_rows g_i
    dweight_i = sum_rows g_i * n_i

The normalised row receives h_i = g_i * weight_i. What remains is n as a function of x, in which
every n_j depends on every x_i three ways: directly, through mean, and through rstd. By definition

    d mean / d x_i = 1/C
    d rstd / d x_i = -1/2 rstd^3 * (2/C)(x_i - mean) = -(rstd^2 / C) n_i

(the variance's dependence on x through the mean drops out, since sum_j (x_j - mean) = 0), and so

    d n_j / d x_i = rstd * (1[i=j] - 1/C) + (x_j - mean) * (-(rstd^2 / C) n_i)
                  = rstd * (1[i=j] - 1/C - n_i n_j / C)

    dx_i = sum_j h_j (d n_j / d x_i)
         = rstd * (h_i - (1/C) sum_j h_j - n_i * (1/C) sum_j h_j n_j)

Read it as geometry: out of h is taken its component along (1, ..., 1) and its component along n,
because moving x in those two directions (shifting the row, stretching it) does not change n.

Why `mean` and `rstd` are saved: they are two numbers a row. With them backward rebuilds n from x in
one pass; without them it would reduce every row twice more before it could begin; and to save n
itself would cost C numbers a row. x is kept in any case, since it is the residual stream.

Why dinp is a `Sum`: x also goes on along the residual stream, and the gradient that came back that
way already stands in dinp. This function returns the part to be added.

Source: Ba, Kiros, Hinton, "Layer Normalization", 2016 (arXiv:1607.06450), section 3.
"""

from typing import NamedTuple

import torch

from reference.shapes import F32, Const, F, G, P, R, Sum


class Forward(NamedTuple):
    out: F["N C"]
    mean: F32["N"]
    rstd: F32["N"]


class Backward(NamedTuple):
    dinp: Sum[R, "N C"]
    dweight: Sum[G, "C"]
    dbias: Sum[G, "C"]


def forward(inp: R["N C"], weight: P["C"], bias: P["C"], eps: Const = 1e-5) -> Forward:
    """Normalise the rows of `inp` [N, C]; `eps` is added to the variance."""
    mean = inp.mean(1)
    centred = inp - mean[:, None]
    rstd = torch.rsqrt((centred * centred).mean(1) + eps)
    normalised = centred * rstd[:, None]
    return Forward(normalised * weight + bias, mean, rstd)


def backward(
    dout: F["N C"], inp: R["N C"], weight: P["C"], mean: F32["N"], rstd: F32["N"]
) -> Backward:
    """Gradients of the input (to be added), the weight and the bias (summed over rows)."""
    normalised = (inp - mean[:, None]) * rstd[:, None]
    dnormalised = dout * weight
    along_ones = dnormalised.mean(1, keepdim=True)
    along_row = (dnormalised * normalised).mean(1, keepdim=True)
    dinp = (dnormalised - along_ones - normalised * along_row) * rstd[:, None]
    return Backward(dinp, (dout * normalised).sum(0), dout.sum(0))
