"""Residual and LayerNorm in one: the stream takes in a branch and is at once normalised.

    res = inp1 + inp2                     the new residual stream, kept
    out = layernorm(res)                  with mean and rstd, as `layernorm` saves them

Why fused: the sum is written and, one operation later, read again; here each row is normalised
while it is still at hand. In GPT-2 every residual is followed by a LayerNorm: the middle one by the
block's second, the last one by the next block's first, and after the last block by ln_f.

Backward. `res` has two readers, the LayerNorm and whatever comes later on the stream. The gradients
of both add up, and the sum then hands the total to each of its summands:

    dtotal = dres + (layernorm's dinp at dout)
    dinp1  = dtotal
    dinp2  = dtotal

dres is the gradient that came back along the stream. Both results overwrite. dweight and dbias are
LayerNorm's. Derivations and sources: `layernorm`, `residual`.
"""

from typing import NamedTuple

from reference.explicit import layernorm, residual
from reference.shapes import F32, Const, F, G, P, R, Sum


class Forward(NamedTuple):
    res: R["N C"]
    out: F["N C"]
    mean: F32["N"]
    rstd: F32["N"]


class Backward(NamedTuple):
    dinp1: R["N C"]
    dinp2: F["N C"]
    dweight: Sum[G, "C"]
    dbias: Sum[G, "C"]


def forward(
    inp1: R["N C"], inp2: F["N C"], weight: P["C"], bias: P["C"], eps: Const = 1e-5
) -> Forward:
    """The sum of stream and branch [N, C], and its rows normalised."""
    res = residual.forward(inp1, inp2).out
    return Forward(res, *layernorm.forward(res, weight, bias, eps))


def backward(
    dout: F["N C"],
    dres: R["N C"],
    res: R["N C"],
    weight: P["C"],
    mean: F32["N"],
    rstd: F32["N"],
) -> Backward:
    """Gradients of stream and branch (equal), and of LayerNorm's parameters."""
    norm = layernorm.backward(dout, res, weight, mean, rstd)
    stream = residual.backward(dres + norm.dinp)
    return Backward(stream.dinp1, stream.dinp2, norm.dweight, norm.dbias)
