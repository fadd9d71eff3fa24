"""PyTorch's own calls for an operation on a GPU, eager and compiled, as a bench times them.

A forward runs without gradients; a backward is autograd's alone, its graph kept. The optimizer is
the fused one; compiled, it is the formula in one kernel. What PyTorch would compile to the same
library call as it makes eagerly (products, attention) is timed eagerly only.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch.nn import functional

from ported.contract import Contract
from reference.stock.attention import heads

SAME = ("linear", "head", "attention")  # operations that compiling leaves as they are
NO_PEER = ("residual_backward",)  # autograd hands one tensor on twice: nothing runs
SLEEP, LONGEST = 2_000_000, 64_000_000  # clock cycles that the GPU sleeps, about 1 and 35 ms
Call = Callable[[], object]


def forward_function(operation: str) -> Callable:
    """The operation as PyTorch's users write it: a dictionary of its outputs that they need."""
    special = {"attention": attention, "cross_entropy": losses, "classifier": losses}
    if operation in special:
        return special[operation]
    return importlib.import_module(f"reference.stock.{operation}").forward


def attention(qkv, H):
    q, k, v = heads(qkv, H)
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return {"out": out.transpose(1, 2).reshape(*qkv.shape[:2], -1)}


def losses(logits, targets, V):
    words = logits[:, :V]
    return {"losses": functional.cross_entropy(words.float(), targets.long(), reduction="none")}


def calls(contract: Contract, copies: list[Mapping], compiled: bool) -> list[Call] | None:
    """A call for each copy of the arguments; None where PyTorch has nothing to time.

    `copies` hold every tensor of the contract and, for a backward, of its forward, by name.
    """
    if contract.name in NO_PEER or compiled and contract.operation in SAME:
        return None
    if compiled:
        from torch import _dynamo
        from torch._functorch import config

        config.donated_buffer = False  # a backward runs more than once here
        _dynamo.reset()
    if contract.direction == "update":
        return [update_call(contract.operation, given, compiled) for given in copies]
    function = forward_function(contract.operation)
    function = torch.compile(function, dynamic=False) if compiled else function
    if contract.operation == "classifier":
        return [classifier_call(function, given) for given in copies]
    make = backward_call if contract.direction == "backward" else forward_call
    return [make(contract, function, given) for given in copies]


def arguments(function: Callable, given: Mapping) -> dict:
    return {name: given[name] for name in inspect.signature(function).parameters if name in given}


def forward_call(contract: Contract, function: Callable, given: Mapping) -> Call:
    mine = arguments(function, given)

    def call():
        with torch.no_grad():
            return function(**mine)
    return call


def backward_call(contract: Contract, function: Callable, given: Mapping) -> Call:
    mine = arguments(function, given)
    wanted = [t.name[1:] for t in contract.outputs if t.name[1:] in mine]
    mine |= {name: mine[name].detach().requires_grad_() for name in wanted}
    out = function(**mine)
    names = [name for name in out if f"d{name}" in given and out[name].requires_grad]
    outputs = [out[name] for name in names]
    gradients = [given[f"d{name}"].to(out[name].dtype).view_as(out[name]) for name in names]
    leaves = [mine[name] for name in wanted]
    return lambda: torch.autograd.grad(outputs, leaves, gradients, retain_graph=True)


def classifier_call(function: Callable, given: Mapping) -> Call:
    """Loss, and its gradient of the scores: forward and backward in one."""
    scores = given["logits"].detach().requires_grad_()

    def call():
        found = function(scores, given["targets"], given["V"])["losses"]
        return torch.autograd.grad(found, scores, given["dscale"].expand_as(found))
    return call


def update_call(operation: str, given: Mapping, compiled: bool) -> Call:
    """The fused optimizer wants one dtype: without masters it steps a float32 copy of the weights,
    with them the weights are rounded after it."""
    if operation == "global_norm":
        norm = torch.compile(torch.linalg.vector_norm) if compiled else torch.linalg.vector_norm
        return lambda: norm(given["dweight"])
    if compiled:
        return partial(torch.compile(adamw, dynamic=False), **arguments(adamw, given))
    master = given["master"] if "master" in given else given["weight"].float()
    parameter = torch.nn.Parameter(master)
    parameter.grad = given["dweight"]
    optimizer = torch.optim.AdamW([parameter], lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1,
                                  fused=True)

    def both():
        optimizer.step()
        if "master" in given:
            given["weight"].copy_(parameter.detach())
    return both


@torch.no_grad()
def adamw(weight, dweight, m, v, decay, scale, lr, t, master=None):
    """The contract's formula, for the compiler to make one kernel of: as in the contract, what
    changes with the step lies on the device, and segments differ in their decay. Weights without
    masters are rounded to nearest."""
    gradient = scale * dweight
    m.lerp_(gradient, 0.1)
    v.mul_(0.95).addcmul_(gradient, gradient, value=0.05)
    rate, root = lr / (1 - 0.9**t), (1 - 0.95**t).sqrt()
    old = weight if master is None else master
    new = old * (1 - lr * 0.1 * decay[:, None]) - rate * m / (v.sqrt() / root + 1e-8)
    if master is not None:
        master.copy_(new)
    weight.copy_(new)


def sampler(many: list[Call], repeats: int) -> Callable[[], float]:
    """Seconds a call by the GPU's clock. A rotation goes ahead of the clock, as it does for ours:
    what the cache has yet to write when the clock starts is what it has when the clock stops. The
    GPU sleeps until everything is asked for, so that no launch is waited for; where it woke before
    that, it sleeps longer and the sample is taken anew."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    sleep = SLEEP

    def sample() -> float:
        nonlocal sleep
        while True:
            torch.cuda._sleep(sleep)
            for call in many:
                call()
            start.record()
            for _ in range(repeats):
                for call in many:
                    call()
            end.record()
            late = start.query()
            torch.cuda.synchronize()
            if not late or sleep >= LONGEST:
                return start.elapsed_time(end) * 1e-3 / (repeats * len(many))
            sleep *= 2
    return sample
