"""Every operation as PyTorch says it: its own modules, functional code and optimizer.

One file an operation, with `forward(...)` or `update(...)` that takes the contract's arguments by
name and returns a dict of the contract's outputs. Backward is autograd's, for all operations at
once: `gradients` below. No code is shared with `reference/explicit`, which is judged by this.
"""

import importlib

import torch


def gradients(operation: str, inputs: dict, douts: dict) -> dict[str, torch.Tensor]:
    """Autograd's gradients of every floating input of an operation's stock forward.

    inputs: the forward's arguments by name. douts: gradients of outputs, `{"dout": ...}`; an output
    without one does not count. Returns `{"dinp": ...}`, zeros where an input has no influence.
    """
    leaves = {
        name: value.detach().clone().requires_grad_()
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    with torch.enable_grad():
        forward = importlib.import_module(f"reference.stock.{operation}").forward
        outputs = forward(**{**inputs, **leaves})
    unknown = [name for name in douts if name[1:] not in outputs]
    if unknown:
        raise ValueError(
            f"stock {operation}: gradients given for {', '.join(unknown)}, "
            f"but forward's outputs are {', '.join(outputs)}"
        )
    results = torch.autograd.grad(
        [outputs[name[1:]] for name in douts],
        list(leaves.values()),
        list(douts.values()),
        materialize_grads=True,
    )
    return {f"d{name}": gradient for name, gradient in zip(leaves, results, strict=True)}
