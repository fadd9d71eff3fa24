"""Residual: what a branch computed is added to the stream that it read from.

    out = inp1 + inp2                     inp1 the stream, inp2 the branch

Backward. A sum hands its gradient on unchanged, to both:

    dinp1 = dout
    dinp2 = dout

This is the point of it: along inp1 the gradient reaches the first block without passing through any
weight. Copying is all that happens here, so a program may let the three gradients be one buffer
(`rewrites.share_residual_gradient`), after which there is nothing left to do.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015
(arXiv:1512.03385); the undisturbed path: "Identity Mappings in Deep Residual Networks", 2016
(arXiv:1603.05027).
"""

from typing import NamedTuple

from reference.shapes import F, R


class Forward(NamedTuple):
    out: R["N C"]


class Backward(NamedTuple):
    dinp1: R["N C"]
    dinp2: F["N C"]


def forward(inp1: R["N C"], inp2: F["N C"]) -> Forward:
    """The stream `inp1` [N, C] with the branch `inp2` [N, C] added."""
    return Forward(inp1 + inp2)


def backward(dout: R["N C"]) -> Backward:
    """The same gradient for both."""
    return Backward(dout.clone(), dout.clone())
