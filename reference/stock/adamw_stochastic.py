"""AdamW whose weights are rounded at random: the stock optimizer's step, not rounded.

PyTorch's optimizers round to nearest; what a rounding at random must be right about, its
expectation, is their result in float32.
"""

from reference.stock import adamw


def update(weight, dweight, m, v, decay, scale, lr, t,
           beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, seed=1):
    """The stock step; `seed` draws nothing here."""
    return adamw.update(weight, dweight, m, v, decay, scale, lr, t, beta1, beta2, eps, weight_decay)


def timed_update(weight, dweight, m, v, decay, scale, lr, t,
                 beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, seed=1):
    """What a bench times: the fused step, which rounds to nearest."""
    return adamw.timed_update(weight, dweight, m, v, decay, scale, lr, t, beta1, beta2, eps,
                              weight_decay)
