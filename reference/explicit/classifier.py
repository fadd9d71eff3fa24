"""Classifier: the losses, and the scores' gradient written over the scores.

`cross_entropy` forward and backward in one go:

    losses = cross_entropy(logits, targets)
    logits <- dscale * d losses / d logits

Nothing stands between the two in training. The loss is the mean over all rows of all micro-batches,
so the gradient that reaches each row is known before the forward pass began: dlosses = dscale =
1 / (micro-batches * N). The logits are the largest tensor of the model, they have no other reader,
and their gradient is as large: written in place, only one of them ever exists, and it is read
twice and written once instead of travelling four times.

dscale is `Dyn`: a one-element buffer, since the number of micro-batches may change between steps.
There is no backward: it has already happened. Derivation and source: `cross_entropy`.
"""

from typing import NamedTuple

from reference.explicit import cross_entropy
from reference.shapes import F32, I32, Axis, Dyn, F, InOut


class Forward(NamedTuple):
    losses: F32["N"]
    logits: InOut[F, "N Vp"]


def forward(logits: InOut[F, "N Vp"], targets: I32["N"], dscale: Dyn, V: Axis) -> Forward:
    """Losses [N] (not scaled), and dscale * their gradient in place of `logits` [N, Vp]."""
    losses, lse = cross_entropy.forward(logits, targets, V)
    dlosses = dscale.expand(len(targets))
    return Forward(losses, cross_entropy.backward(dlosses, logits, targets, lse, V).dlogits)
