"""GELU, then linear, in one. What pays is the backward: the product's epilogue applies the slope.

    act = gelu(pre)                       kept for backward, which needs it for dweight
    out = linear(act)

Backward runs the two in reverse. The gradient of `act` comes out of a product and is multiplied,
where it arises, by the GELU's slope, so that dact never exists as a tensor:

    dact, dweight, dbias = linear's backward at (dout, act, weight)
    dpre = gelu's dinp at (dact, pre)

This is the second half of GPT-2's feed-forward part seen backward, as `linear_gelu` is its first
half seen forward. Derivations and sources: `linear`, `gelu`.
"""

from typing import NamedTuple

from reference.explicit import gelu, linear
from reference.shapes import F, G, P, Sum

# Operations of the products, two a multiply-add.
FLOPS = {"forward": "2*N*C*O", "backward": "4*N*C*O"}


class Forward(NamedTuple):
    act: F["N C"]
    out: F["N O"]


class Backward(NamedTuple):
    dpre: F["N C"]
    dweight: Sum[G, "O C"]
    dbias: Sum[G, "O"]


def forward(pre: F["N C"], weight: P["O C"], bias: P["O"]) -> Forward:
    """The GELU of `pre` [N, C], and its rows times the matrix, [N, O]."""
    act = gelu.forward(pre).out
    return Forward(act, linear.forward(act, weight, bias).out)


def backward(dout: F["N O"], pre: F["N C"], act: F["N C"], weight: P["O C"]) -> Backward:
    """Gradients of `pre`, and of weight and bias summed over rows."""
    dact, dweight, dbias = linear.backward(dout, act, weight)
    return Backward(gelu.backward(dact, pre).dinp, dweight, dbias)
