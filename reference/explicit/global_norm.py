"""Global norm: the length of the whole gradient, and the factor that clips it.

    norm  = sqrt(sum over all elements of dweight^2)
    scale = max_norm / (norm + 1e-6)      if that is below 1, else 1

A gradient longer than max_norm is shortened to it and keeps its direction, which clipping element
by element would not. The gradient itself is not touched here: `adamw` multiplies by `scale` as it
reads, which saves a pass over all gradients. The 1e-6 is PyTorch's (`clip_grad_norm_`): it only
guards the division. max_norm = 0 means no clipping: scale is 1. A gradient that is not finite gives
a norm that is not, for the trainer to see.

The sum runs over as many terms as the model has parameters: a float32 version must sum in parts.

Source: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", 2013
(arXiv:1211.5063), section 3.2.
"""

from typing import NamedTuple

import torch

from reference.shapes import F32, Const, G


class Update(NamedTuple):
    norm: F32["1"]
    scale: F32["1"]


def update(dweight: G["S E"], max_norm: Const = 1.0) -> Update:
    """Norm of the region `dweight` [S, E] and the clipping factor, one element each."""
    norm = (dweight * dweight).sum().sqrt().reshape(1)
    if max_norm == 0:
        return Update(norm, torch.ones_like(norm))
    return Update(norm, (max_norm / (norm + 1e-6)).clamp(max=1.0))
