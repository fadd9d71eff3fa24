"""The elementary steps of an explicit function, as a TorchDispatchMode sees them.

Here they are sorted and numbered: steps that move numbers, sums, and elementwise ones with the
number of roundings that float32 makes there. What is done at each is for the subclasses to say
(rounding.py, storage.py, honest.py).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Moves numbers without rounding them; variances move the same way.
MOVES = frozenset("""
    view _unsafe_view reshape t transpose permute expand slice select unsqueeze squeeze split unbind
    split_with_sizes cat stack clone index index_select gather embedding tril triu flip roll narrow
    contiguous _to_copy alias detach as_strided unfold diagonal repeat copy_ index_put_ index_put
    masked_select lift_fresh lift_fresh_copy select_scatter slice_scatter chunk
    where masked_fill masked_fill_ constant_pad_nd zero_ fill_""".split())
FILLS = frozenset("masked_fill masked_fill_ constant_pad_nd fill_".split())
FRESH = frozenset("""
    zeros zeros_like new_zeros ones ones_like new_ones empty empty_like new_empty full full_like
    new_full arange scalar_tensor""".split())
# Roundings of one elementary step; kernels' exp and tanh are good to about 2 units, and a division
# may be a multiplication by the rounded reciprocal.
WEIGHTS = {
    **dict.fromkeys("amax amin max min maximum minimum clamp clamp_min clamp_max relu neg abs sign "
                    "floor ceil round nan_to_num".split(), 0.0),
    **dict.fromkeys("exp exp2 expm1 log log2 log1p tanh sigmoid sin cos erf rsqrt".split(), 2.0),
    "pow": 2.0,
    **dict.fromkeys("div reciprocal".split(), 1.5),
}


class UnknownStep(ValueError):
    """An explicit function took a step whose float32 error is not known here."""


# Composite steps, rewritten in elementary ones.
REWRITES = {
    "addmm": lambda c, a, b: c + a @ b, "baddbmm": lambda c, a, b: c + a @ b,
    "mv": lambda a, b: (a @ b[:, None])[:, 0],
}
# Parts of the names of steps that are not elementwise and have the shape of their argument.
MIXES = ("scatter", "cum", "prod", "var", "std", "norm", "softmax", "logsumexp", "matmul", "conv")
SUMS = frozenset("sum mean mm bmm index_add index_add_".split())


def floating(value) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def holds(result: torch.Tensor) -> torch.Tensor:
    """Where a result is, all but surely, one that float32 holds: tanh is 1 long before infinity.

    Only numbers of three bits of significand (1, 2, 0.5, 7): others are near a float32 by accident.
    """
    scaled = result * (2.0**50 + 1)
    return (result - (scaled - (scaled - result))).abs() <= 2.0**-45 * result.abs()


def rounded(args) -> int:
    """How many constants among the arguments float32 has to round."""
    return sum(isinstance(a, float) and float(np.float32(a)) != a for a in args)


def flat(values) -> list:
    """Tensors among the arguments of a step, those in lists too."""
    parts = (part for value in values
             for part in (value if isinstance(value, list | tuple) else [value]))
    return [part for part in parts if isinstance(part, torch.Tensor)]


class Mode(TorchDispatchMode):
    """Sorts each step into move, sum or elementwise, and leaves the rest to the subclass. Steps
    are numbered; `marks` are those whose result goes through `store` (storage.py)."""

    marks: frozenset[int] = frozenset()
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in REWRITES:
            with self:
                return REWRITES[name](*args, **kwargs)
        made = name not in MOVES and name not in FRESH
        self.count += made
        number = self.count if made else None
        result = self._step(func, name, args, kwargs)
        return self.store(result) if number in self.marks else result

    def _step(self, func, name, args, kwargs):
        if name in MOVES or name in FRESH:
            return self.move(func, name, args, kwargs)
        if name in SUMS:
            return self.sum(func, name, args, kwargs)
        tensors = [a for a in args if floating(a)]
        weight = WEIGHTS.get(name.rstrip("_"), 1.0)
        if not tensors or any(word in name for word in MIXES):
            return self.other(func, name, args, kwargs)
        return self.elementwise(func, name, args, kwargs, weight)

    def other(self, func, name, args, kwargs):
        result = func(*args, **kwargs)
        if floating(result):
            raise UnknownStep(f"explicit step {func}: its float32 error is not known; add it to "
                              "MOVES, WEIGHTS, REWRITES or SUMS of checks/steps.py")
        return result


def run(function: Callable, mode: TorchDispatchMode | None = None) -> dict[str, torch.Tensor]:
    """The function's results by name, under `mode`, without gradients and on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            if mode is None:
                return function()._asdict()
            with mode:
                return function()._asdict()
    finally:
        torch.set_num_threads(threads)
