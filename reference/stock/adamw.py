"""AdamW: one step of torch.optim.AdamW, entered in the middle of a run."""

import torch


def update(weight, dweight, m, v, decay, scale, lr, t,
           beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1):
    """One optimizer for each value in `decay`, its state set as after t-1 steps."""
    out = {"weight": weight.clone(), "m": m.clone(), "v": v.clone()}
    for value in decay.unique():
        rows = decay == value
        parameter = torch.nn.Parameter(weight[rows].clone())
        parameter.grad = scale * dweight[rows]
        optimizer = torch.optim.AdamW([parameter], lr=float(lr), betas=(beta1, beta2), eps=eps,
                                      weight_decay=weight_decay * float(value))
        state = {"exp_avg": m[rows].clone(), "exp_avg_sq": v[rows].clone()}
        optimizer.state[parameter] = {"step": torch.tensor(float(t) - 1), **state}
        optimizer.step()
        out["weight"][rows] = parameter.detach()
        out["m"][rows], out["v"][rows] = state["exp_avg"], state["exp_avg_sq"]
    return out


def timed_update(weight, dweight, m, v, decay, scale, lr, t,
                 beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1):
    """What a bench times: PyTorch's fused step over one parameter of the region's size."""
    parameter = torch.nn.Parameter(weight)
    parameter.grad = dweight
    optimizer = torch.optim.AdamW([parameter], lr=float(lr), betas=(beta1, beta2), eps=eps,
                                  weight_decay=weight_decay, fused=True)
    return optimizer.step
