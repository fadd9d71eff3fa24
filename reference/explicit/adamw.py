"""AdamW: one step of the optimizer over a whole region of parameters.

Parameters lie in one region of S segments of E elements. A segment belongs to one tensor, so what
differs between tensors, here only whether weight decay applies, is one number a segment (`decay`: 1
for matrices, 0 for biases and LayerNorm). For each element, with g = scale * dweight (`scale` clips
the gradient, see `global_norm`) and t the number of this step, from 1:

    m <- beta1 m + (1 - beta1) g                      running mean of the gradient
    v <- beta2 v + (1 - beta2) g^2                    running mean of its square
    weight <- weight - lr weight_decay decay weight   decay, first
    weight <- weight - lr (m / c1) / (sqrt(v / c2) + eps)

Why c1 = 1 - beta1^t and c2 = 1 - beta2^t: m and v start at 0. Unrolling the recurrence,
m_t = (1 - beta1) sum_{i=1..t} beta1^(t-i) g_i, whose weights sum to 1 - beta1^t and not to 1;
dividing by that sum makes it a mean again. At t = 1 the sum is far from 1 (0.05 for beta2 = 0.95),
and 1 - beta^t loses digits to cancellation there: c1 and c2 are computed in double precision.

Why the decay stands outside the fraction (the W of AdamW): added to g, as in L2 regularisation, it
would be divided by sqrt(v) too, and weights with large gradients would hardly decay.

Why eps stands outside the root: this is PyTorch's formula, which is the paper's.

The step's size is at most about lr an element, whatever the gradient's scale. Padding elements have
zero weight, gradient and moments, and remain zero.

Source: Kingma, Ba, "Adam", 2014 (arXiv:1412.6980), algorithm 1 and section 3; Loshchilov, Hutter,
"Decoupled Weight Decay Regularization", 2017 (arXiv:1711.05101), algorithm 2.
"""

from typing import NamedTuple

from reference.shapes import F32, I32, Const, Dyn, G, InOut, P


class Update(NamedTuple):
    weight: InOut[P, "S E"]
    m: InOut[F32, "S E"]
    v: InOut[F32, "S E"]


def update(
    weight: InOut[P, "S E"],
    dweight: G["S E"],
    m: InOut[F32, "S E"],
    v: InOut[F32, "S E"],
    decay: F32["S"],
    scale: F32["1"],
    lr: Dyn,
    t: Dyn[I32],
    beta1: Const = 0.9,
    beta2: Const = 0.95,
    eps: Const = 1e-8,
    weight_decay: Const = 0.1,
) -> Update:
    """The new weights and moments [S, E] after step `t` at learning rate `lr`."""
    gradient = scale * dweight
    m = beta1 * m + (1 - beta1) * gradient
    v = beta2 * v + (1 - beta2) * gradient * gradient
    c1, c2 = 1 - beta1 ** int(t), 1 - beta2 ** int(t)
    weight = weight - lr * weight_decay * decay[:, None] * weight
    return Update(weight - lr * (m / c1) / ((v / c2).sqrt() + eps), m, v)
