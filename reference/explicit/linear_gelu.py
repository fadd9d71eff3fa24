"""Linear, then GELU, in one: the product's epilogue applies the GELU.

    pre = linear(inp)                     kept for backward, which needs the slope at pre
    out = gelu(pre)

Why fused: a product's results leave the registers once; applying the GELU there saves reading and
writing a tensor of N*O elements, four times as wide as the stream in GPT-2.

Backward runs the two in reverse, dpre never leaving the machine's registers or cache:

    dpre = gelu's dinp at (dout, pre)
    dinp, dweight, dbias = linear's backward at (dpre, inp, weight)

Derivations and sources: `linear`, `gelu`.
"""

from typing import NamedTuple

from reference.explicit import gelu, linear
from reference.shapes import F, G, P, Sum

# Operations of the products, two a multiply-add.
FLOPS = {"forward": "2*N*C*O", "backward": "4*N*C*O"}


class Forward(NamedTuple):
    pre: F["N O"]
    out: F["N O"]


class Backward(NamedTuple):
    dinp: F["N C"]
    dweight: Sum[G, "O C"]
    dbias: Sum[G, "O"]


def forward(inp: F["N C"], weight: P["O C"], bias: P["O"]) -> Forward:
    """Rows of `inp` [N, C] before (`pre`) and after (`out`) the GELU, both [N, O]."""
    pre = linear.forward(inp, weight, bias).out
    return Forward(pre, gelu.forward(pre).out)


def backward(dout: F["N O"], pre: F["N O"], inp: F["N C"], weight: P["O C"]) -> Backward:
    """Gradients of the input, and of weight and bias summed over rows."""
    dpre = gelu.backward(dout, pre).dinp
    return Backward(*linear.backward(dpre, inp, weight))
