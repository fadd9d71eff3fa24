"""Where a kernel of a narrow precision may round on the way, and what such a kernel gives.

Two kinds of numbers inside an operation may pass through memory as bfloat16, or be kept in float32;
both are honest. They are an output that later steps go on from (`res` of a residual_layernorm), and
the factors of a matrix product, since tensor cores take bfloat16. `marks` finds, by watching one
run of an explicit function, the steps that make them; no operation is known by name. Rounding a
number that bfloat16 holds already (an input, a zero, a one) changes nothing and excuses nothing.

Rounding to nearest errs by at most half a last place, h, evenly: h^2 / 3 on average. h^2 stands
for the variance, since the gate's slack is made for the largest of float32's errors.
"""

from collections.abc import Mapping

import torch

from checks import steps
from ported.contract import Contract
from ported.precision import Precision

UNITS = {"float32": 2.0**-24, "tf32": 2.0**-11, "bfloat16": 2.0**-8}
DENORMAL = 2.0**-134  # half of bfloat16's smallest
HELD = 2.0**-18  # so near to a bfloat16, relatively, float32 errs less than half way to the next
PRODUCTS = ("mm", "bmm")


def variance(value: torch.Tensor) -> torch.Tensor:
    """Of the error of storing `value` as bfloat16, which holds some numbers, or all but holds them:
    then what float32 makes of them is rounded to the same. That is said of numbers like 1 and 1/2
    only: others are near a bfloat16 by accident, and a kernel may store a multiple of them."""
    nearest = value.bfloat16().to(value)
    away = (nearest - value).abs()
    held = (away == 0) | (away <= HELD * value.abs()) & steps.holds(nearest)
    half = torch.ldexp(torch.full_like(value, UNITS["bfloat16"]), torch.frexp(value).exponent - 1)
    size = half**2 + DENORMAL**2
    size = torch.where(held, away * away, size)
    return torch.where(value.isfinite(), size, 0.0)


class Watch(steps.Mode):
    """Runs a function as it is and notes which steps made each tensor, and which of them are used
    by later ones. Moving numbers makes none and uses none."""

    def __init__(self):
        super().__init__()
        self.kept: list[torch.Tensor] = []  # so that no memory is used twice
        self.origin: dict[int, frozenset[int]] = {}  # memory -> the steps that made what is in it
        self.last_use: dict[int, int] = {}  # step -> the last that uses its result
        self.factors: set[int] = set()

    def of(self, *tensors) -> frozenset[int]:
        """The steps that made these tensors; none made an input."""
        places = (tensor.untyped_storage().data_ptr() for tensor in tensors)
        return frozenset().union(*(self.origin.get(place, ()) for place in places))

    def _step(self, func, name, args, kwargs):
        result = func(*args, **kwargs)
        given = self.of(*steps.flat(args))
        made = given
        if name not in steps.MOVES and name not in steps.FRESH:
            made = frozenset({self.count})
            self.last_use.update(dict.fromkeys(given, self.count))
            if name in PRODUCTS:
                self.factors |= given
        for tensor in steps.flat(result if isinstance(result, list | tuple) else [result]):
            self.kept.append(tensor)
            self.origin[tensor.untyped_storage().data_ptr()] = made
        return result


def marks(contract: Contract, run, precision: Precision) -> frozenset[int]:
    """Numbers of the steps whose results may be stored as bfloat16 before others use them.
    `run(mode)` runs the explicit function."""
    if "bfloat16" not in precision.dtypes.values():
        return frozenset()
    watch, found = Watch(), set()
    for name, value in run(watch).items():
        if precision.dtypes[contract.by_name[name].role] == "bfloat16":
            found |= {step for step in watch.of(value) if watch.last_use.get(step, 0) > step}
    return frozenset(found | watch.factors)


class Stored(steps.Mode):
    """An explicit function whose marked steps are rounded to bfloat16, as a kernel would store
    them. `before`: what an output was before that."""

    def __init__(self, marked: frozenset[int]):
        super().__init__()
        self.marks = marked
        self.before: dict[int, torch.Tensor] = {}

    def _step(self, func, name, args, kwargs):
        return func(*args, **kwargs)

    def store(self, result):
        stored = result.bfloat16().to(result)
        self.before[id(stored)] = result, stored
        return stored


class Cut(steps.Mode):
    """An explicit function whose products cut their factors off to TF32, as tensor cores read
    float32 registers."""

    def _step(self, func, name, args, kwargs):
        if name in PRODUCTS:
            args = [(factor.float().view(torch.int32) & ~0x1FFF).view(torch.float32).to(factor)
                    for factor in args]
        return func(*args, **kwargs)


def originals(outputs: Mapping[str, torch.Tensor], mode) -> dict[str, torch.Tensor]:
    """The outputs, those that a mode rounded as they were before."""
    return {name: mode.before[id(value)][0] if id(value) in mode.before else value
            for name, value in outputs.items()}
