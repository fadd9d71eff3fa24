"""Linear: every row times a matrix, plus a bias.

Forward, for one row x of C channels; the matrix lies as [O, C], one row of it for each output:

    out_o = sum_c x_c weight_oc + bias_o              out = inp @ weight^T + bias

Backward. With g = dout, every factor of a product receives g times the other factor:

    dx_c      = sum_o g_o weight_oc                   dinp    = dout @ weight            [N C]
    dweight_oc = sum_rows g_o x_c                     dweight = dout^T @ inp             [O C]
    dbias_o   = sum_rows g_o                          dbias   = sum of dout over rows    [O]

A check that needs no calculus: the shapes allow no other product. Forward costs 2*N*O*C operations
and backward twice that, one product of the same size for each of the two factors; this is why a
training step costs about three times an evaluation.

Only `inp` and `weight` are needed again, both of which exist anyway: nothing is saved.

Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature
323, 1986; the matrix form e.g. in Goodfellow, Bengio, Courville, "Deep Learning", section 6.5.
"""

from typing import NamedTuple

from reference.shapes import F, G, P, Sum

# Operations of the products, two a multiply-add.
FLOPS = {"forward": "2*N*C*O", "backward": "4*N*C*O"}


class Forward(NamedTuple):
    out: F["N O"]


class Backward(NamedTuple):
    dinp: F["N C"]
    dweight: Sum[G, "O C"]
    dbias: Sum[G, "O"]


def forward(inp: F["N C"], weight: P["O C"], bias: P["O"]) -> Forward:
    """Rows of `inp` [N, C] to rows of `out` [N, O]."""
    return Forward(inp @ weight.T + bias)


def backward(dout: F["N O"], inp: F["N C"], weight: P["O C"]) -> Backward:
    """Gradients of the input, and of weight and bias summed over rows."""
    return Backward(dout @ weight, dout.T @ inp, dout.sum(0))
