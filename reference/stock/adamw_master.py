"""AdamW on master weights: the stock optimizer's step on them; the weights are what it leaves."""

import torch

from reference.stock import adamw


def update(master, dweight, m, v, decay, scale, lr, t,
           beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1):
    """The stock step, its new weights under both names."""
    out = adamw.update(master, dweight, m, v, decay, scale, lr, t, beta1, beta2, eps, weight_decay)
    return {"weight": out["weight"].clone(), "master": out["weight"], "m": out["m"], "v": out["v"]}


def timed_update(master, dweight, m, v, decay, scale, lr, t,
                 beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1):
    """What a bench times: the fused step on the masters, then their copy in bfloat16."""
    step = adamw.timed_update(master, dweight, m, v, decay, scale, lr, t, beta1, beta2, eps,
                              weight_decay)
    weight = torch.empty_like(master, dtype=torch.bfloat16)

    def both():
        step()
        weight.copy_(master)

    return both
