"""How large an honest float32 error is: measured by running the explicit function in float64.

No operation is known by name here. A mode sees every elementary step of an explicit function
(steps.py) and says what float32 would do there, twice over:

* `Propagate` carries beside every tensor the variance of its error. A step hands on its arguments'
  variances (by a finite difference of the step itself, so curvature counts; linear steps apply
  themselves) and adds its own rounding, (u |z|)^2 with u = 2^-24, or a sum's (accumulation.py). It
  is smooth, but believes that errors are independent.
* `Sample` multiplies every result by a random 1 + u xi. What comes out is rough, but knows that one
  error in a row's statistic reaches all elements of the row.

Sources: Parker, "Monte Carlo Arithmetic", 1997; Higham, "Accuracy and Stability of Numerical
Algorithms", 2nd ed., section 3.1.
"""

from functools import cache

import numpy as np
import torch

from checks import accumulation
from checks.accumulation import UNIT
from checks.steps import FILLS, FRESH, Mode, flat, floating, holds, rounded

TINY = 2.0**-149  # the smallest denormal: gradual underflow is honest, flushing to zero is not,
FLUSHED = 2.0**-126  # except in exp, whose vector forms stop at the smallest normal number
TF32 = 2.0**-11  # unit round-off; registers that hold a TF32 are read without their last 13 bits,
# so that what was not rounded before is cut off: up to 2^-10, and always toward zero
LOOKED_AT = 128  # numbers of a step, to see whether they are few
LARGEST = 3.4028235677973366e38  # from here on (largest float32 + half an ulp) the result is Inf
DOUBT = 2.0**-52  # float64's own rounding: a truth of 0 that comes of cancellation may not be 0


def _memory(tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class Propagate(Mode):
    """Computes in float64 and carries the variance of every tensor's float32 error beside it."""

    def __init__(self, products: float = UNIT, marks: frozenset[int] = frozenset(), stored=None):
        super().__init__()
        self.marks, self.stored = marks, stored  # steps that may be stored; variance of doing so
        self.before: dict[int, torch.Tensor] = {}  # id -> variance before it was stored
        self.stores: list[torch.Tensor] = []  # spread of each storing in turn, for Sample
        self.known: dict[int, tuple] = {}  # id -> (tensor, kept alive; variance)
        self.spreads: list[torch.Tensor] = []  # of each sum in turn, for Sample
        self.whole: list[bool] = []  # whether some numbers of each step need no rounding
        self.extra = 2 * (products / UNIT) ** 2 if products > UNIT else 0.0  # both factors rounded
        self.cut = 2 * products / UNIT if products == TF32 else 0.0  # or cut off, all one way
        self.longest: dict[int, int] = {}  # memory -> terms of the longest sum behind what is in it
        self.infinite = False  # some product met infinities: a kernel may skip 0 times Inf
        self.overflows = False  # some step left float32's range

    def store(self, result):
        variance, own = self.variance(result), self.stored(result)
        self.stores.append(own.sqrt())
        self.before[id(result)] = variance
        self.known[id(result)] = (result, variance + own)
        return result

    def variance(self, tensor):
        entry = self.known.get(id(tensor))
        return None if entry is None else entry[1]

    def terms(self, *tensors) -> int:
        """Terms of the longest sum behind any of the tensors."""
        return max((self.longest.get(_memory(t), 1) for t in tensors), default=1)

    def _keep(self, tensor, variance, terms: int = 1):
        self.known[id(tensor)] = (tensor, variance)
        self.longest[_memory(tensor)] = max(terms, self.terms(tensor))  # views see it too
        return tensor

    def move(self, func, name, args, kwargs):
        result = func(*args, **kwargs)
        if name in FRESH:
            return self._keep(result, torch.zeros_like(result)) if floating(result) else result
        moved = [self._moved(value) for value in args]
        if not any(flag for _, flag in moved):
            return result
        values = [value for value, _ in moved]
        if name in FILLS:
            values[-1] = 0.0
        variances = func(*values, **kwargs)
        many = isinstance(result, list | tuple)
        pairs = zip(result, variances, strict=True) if many else [(result, variances)]
        for tensor, variance in pairs:
            if floating(tensor):
                self._keep(tensor, variance, self.terms(*flat(args)))
        return result

    def _moved(self, value):
        """An argument's variance in its place, and whether it has one."""
        if isinstance(value, list | tuple) and any(floating(part) for part in value):
            parts = [self._moved(part) for part in value]
            return [part for part, _ in parts], any(flag for _, flag in parts)
        if not floating(value):
            return value, False
        variance = self.variance(value)
        return (torch.zeros_like(value), False) if variance is None else (variance, True)

    def sum(self, func, name, args, kwargs):
        if name in ("sum", "mean"):
            total, own, carried, count = self._sum(*args, mean=name == "mean", **kwargs)
        elif name in ("mm", "bmm"):
            total, own, carried, count = self._multiply(*args)
        else:
            total, own, carried, count = self._scatter(*args)
        own = torch.where(total.isfinite(), own, 0.0).nan_to_num_(0.0, posinf=torch.inf)
        own = own * UNIT**2 + (own > 0).to(own) * (count * TINY**2)
        self.spreads.append(own.sqrt())
        self._note(total)
        self._note(self.spreads[-1] / UNIT)
        variance = own if carried is None else own + carried.nan_to_num(torch.inf, torch.inf)
        if name.endswith("_"):
            args[0].copy_(total)
            total, variance = args[0], self._renewed(args[0], variance)
        return self._keep(total, variance, max(count, self.terms(*flat(args))))

    def _renewed(self, tensor, variance):
        """The variance of a tensor that was written to; views of it see the change."""
        known = self.variance(tensor)
        return variance if known is None else known.copy_(variance)

    def _sum(self, x, dim=None, keepdim=False, *, dtype=None, mean=False):
        axes = list(range(x.ndim)) if dim in (None, []) else dim
        axes = sorted(a % x.ndim for a in ([axes] if isinstance(axes, int) else axes))
        rest = [a for a in range(x.ndim) if a not in axes]
        shape = [x.shape[a] for a in rest]
        kept = [1 if a in axes else n for a, n in enumerate(x.shape)] if keepdim else shape
        terms = x.permute(*rest, *axes).reshape(*shape, -1)
        total, own = accumulation.of_last_axis(terms, mean)
        count = terms.shape[-1] if mean else 1
        variance = self.variance(x)
        carried = None if variance is None else variance.sum(axes, keepdim=keepdim) / count**2
        total, own = total / count, own / count**2
        if mean:
            own = own + total * total
        return total.reshape(kept), own.reshape(kept), carried, terms.shape[-1]

    def _multiply(self, a, b):
        self.infinite |= not bool(a.isfinite().all() and b.isfinite().all())
        total, own = accumulation.of_product(a, b)
        va, vb = self.variance(a), self.variance(b)
        carried = [p @ q for p, q in ((va, b * b), (None if vb is None else a * a, vb))
                   if p is not None and q is not None]
        if self.extra:
            own = own + self.extra * ((a * a) @ (b * b))
        if self.cut:
            own = own + (self.cut * total) ** 2 + (self._flushed(a, b) / UNIT) ** 2
        return total, own, sum(carried) if carried else None, a.shape[-1]

    @staticmethod
    def _flushed(a, b):
        """What a product loses where denormal factors count as zeros."""
        low, lower = (x.abs() * (x.abs() < FLUSHED) for x in (a, b))
        return low @ b.abs() + a.abs() @ lower if bool(low.any() or lower.any()) else 0.0

    def _scatter(self, target, axis, index, source):
        total, own = accumulation.of_rows(target, axis, index, source)
        (before, _), (added, _) = self._moved(target), self._moved(source)
        return total, own, before.index_add(axis, index, added), index.numel()

    def elementwise(self, func, name, args, kwargs, weight):
        plain = getattr(torch.ops.aten, name[:-1]) if name.endswith("_") else func
        first = plain(*args, **kwargs)
        variance = (first * UNIT) ** 2 * (weight**2 + (weight > 0) * rounded(args))
        if weight:
            held = holds(first)
            self.whole.append(bool(held.any()))
            if self.whole[-1]:
                doubt = (first * DOUBT) ** 2 + (first - first.float()) ** 2
                variance = torch.where(held, doubt, variance)
        if weight:
            variance += (first != 0).to(first) * (weight * TINY) ** 2
        if name.startswith("exp"):
            variance += args[0].isfinite().to(first) * FLUSHED**2
        for tensor in {id(a): a for a in args if floating(a)}.values():
            known = self.variance(tensor)
            if known is not None:
                step = known.sqrt()
                moved = plain(*(a + step if a is tensor else a for a in args), **kwargs)
                variance = variance + (moved - first) ** 2
                if name == "exp":  # float32 knows nothing of it: honest results overflow or vanish
                    variance[tensor + 8 * step > 88] = torch.inf
        variance = torch.where(first.isfinite(), variance.nan_to_num_(torch.inf, torch.inf), 0.0)
        self._note(first)
        if name.endswith("_"):
            first = args[0].copy_(first)
            variance = self._renewed(first, variance)
        return self._keep(first, variance, self.terms(*flat(args)))

    def _note(self, result):
        if not self.overflows and result.numel():
            low, high = (float(end) for end in torch.aminmax(result))
            if not (low > -LARGEST and high < LARGEST):
                self.overflows = bool((result.isfinite() & (result.abs() >= LARGEST)).any())


@cache
def _pool(size: int, weight: float) -> torch.Tensor:
    """Random numbers of mean 0 and variance 1 for weight 0, else 1 + weight u times them."""
    generator = torch.Generator().manual_seed(20240520)
    flat = torch.rand(size, generator=generator, dtype=torch.float64).sub_(0.5).mul_(12**0.5)
    return flat.mul_(weight * UNIT).add_(1.0) if weight else flat


def _few(result: torch.Tensor) -> bool:
    """Whether most of a step's numbers, as float32 holds them, occur more than once."""
    some = result.detach().reshape(-1)[::max(result.numel() // LOOKED_AT, 1)].float().numpy()
    return some.size >= LOOKED_AT // 2 and np.unique(some).size < some.size // 2


class Sample(Mode):
    """Computes in float64 with a random error of float32's size after every step.

    `model` is a Propagate over the same function and inputs. `alike`: equal numbers of one step get
    equal errors, as they do in truth. It matters where many are equal, so a step whose float32
    numbers are few gets them in any case. `narrow`: no errors, but what leaves float32's range
    becomes Inf.
    """

    def __init__(self, model: Propagate, seed: int, narrow: bool = False, alike: bool = False):
        super().__init__()
        self.spreads, self.whole = iter(model.spreads), iter(model.whole)
        self.marks, self.stores = frozenset() if narrow else model.marks, iter(model.stores)
        self.before: dict[int, tuple] = {}  # id -> what an output was before it was stored
        self.random = torch.Generator().manual_seed(seed)
        self.narrow = narrow
        self.alike = alike

    def _errors(self, result, weight=0.0):
        size = result.numel()
        pool = _pool(max(1 << 18, 1 << (2 * size).bit_length()), weight)
        if self.alike or _few(result):
            odd = 2 * int(torch.randint(1 << 40, (), generator=self.random)) + 1
            bits = result.float().contiguous().view(torch.int32).long()
            return pool[(bits * odd >> 20) & (len(pool) - 1)]
        start = int(torch.randint(len(pool) - size + 1, (), generator=self.random))
        return pool[start:start + size].view(result.shape)

    def store(self, result):
        stored = result + next(self.stores) * self._errors(result)
        self.before[id(stored)] = result, stored
        return stored

    def _narrow_sum(self, func, name, args, kwargs, result):
        """NaN where parts of a sum overflow with both signs: its order decides what comes out."""
        count = args[0].numel() // max(result.numel(), 1) if name == "mean" else 1
        plain = torch.ops.aten.index_add if name.startswith("index_add") else func
        sizes = [a.abs() if floating(a) else a for a in args]
        if not name.endswith("_"):
            sizes = plain(*sizes, **kwargs) * count
            beyond = (sizes >= LARGEST) & (sizes > 1.000001 * (result * count).abs())
            result = result.masked_fill_(beyond & result.isfinite(), torch.nan)
        return self._narrowed(result.mul_(count)).div_(count)

    def _narrowed(self, result):
        return result.masked_fill_(result >= LARGEST, torch.inf).masked_fill_(
            result <= -LARGEST, -torch.inf)

    def move(self, func, name, args, kwargs):
        return func(*args, **kwargs)

    def sum(self, func, name, args, kwargs):
        result, spread = func(*args, **kwargs), next(self.spreads)
        if self.narrow:
            return self._narrow_sum(func, name, args, kwargs, result)
        return result.addcmul_(spread, self._errors(result))

    def elementwise(self, func, name, args, kwargs, weight):
        result = func(*args, **kwargs)
        if self.narrow and floating(result):
            return self._narrowed(result)
        if weight:
            held = holds(result) if next(self.whole) else None
            whole = None if held is None else result.float().to(result)
            result.mul_(self._errors(result, weight))
            if held is not None:
                result.copy_(torch.where(held, whole, result))
            for _ in range(rounded(args)):  # one error for all elements
                result.mul_(1 + UNIT * float(torch.randn((), generator=self.random)))
        return result


__all__ = ["LARGEST", "TINY", "UNIT", "Propagate", "Sample"]
