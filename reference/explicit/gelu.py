"""GELU, tanh form: x times (about) the probability that a normal variable is below x.

    u(x) = k (x + a x^3)           k = sqrt(2/pi), a = 0.044715
    out  = 0.5 x (1 + tanh u)

The exact GELU is x * Phi(x); 0.5 (1 + tanh u) is the paper's approximation of Phi, and GPT-2's
weights were trained with it, so here it is the definition. k is the slope that makes both agree at
0 (Phi'(0) = 1/sqrt(2 pi) = k/2); a was fitted.

Backward, by the product rule with d tanh(u)/du = 1 - tanh^2 u and u' = k (1 + 3 a x^2):

    dout/dx = 0.5 (1 + tanh u) + 0.5 x (1 - tanh^2 u) k (1 + 3 a x^2)
    dinp    = dout * dout/dx

tanh u is not saved: recomputing it costs less than reading it. Far out both formulas behave: for
large |x| tanh u is exactly 1 or -1 and the second term exactly 0. (In float32 x^3 overflows from
7e12 on, to an infinity that tanh takes; only from 1.8e19 on x^2 does, and the slope is 0 * inf.)

Source: Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016 (arXiv:1606.08415).
"""

from math import pi, sqrt
from typing import NamedTuple

import torch

from reference.shapes import F

SLOPE = sqrt(2 / pi)
CUBIC = 0.044715


class Forward(NamedTuple):
    out: F["N C"]


class Backward(NamedTuple):
    dinp: F["N C"]


def forward(inp: F["N C"]) -> Forward:
    """Elementwise on `inp` [N, C]."""
    tanh = torch.tanh(SLOPE * (inp + CUBIC * inp**3))
    return Forward(0.5 * inp * (1 + tanh))


def backward(dout: F["N C"], inp: F["N C"]) -> Backward:
    """Elementwise: `dout` times the slope at `inp`."""
    tanh = torch.tanh(SLOPE * (inp + CUBIC * inp**3))
    dtanh = (1 - tanh * tanh) * SLOPE * (1 + 3 * CUBIC * inp**2)
    return Backward(dout * (0.5 * (1 + tanh) + 0.5 * inp * dtanh))
