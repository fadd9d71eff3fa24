"""Global norm and clipping factor by torch.nn.utils."""

import torch
from torch.nn import utils


def update(dweight, max_norm=1.0):
    """The norm, and what clipping to it makes of a gradient of one."""
    norm = utils.get_total_norm([dweight])
    one = torch.nn.Parameter(torch.ones_like(norm))
    one.grad = torch.ones_like(norm)
    if max_norm > 0:
        utils.clip_grads_with_norm_([one], max_norm, norm)
    return {"norm": norm.reshape(1), "scale": one.grad.reshape(1)}
