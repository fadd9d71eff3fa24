"""The error variance of a float32 sum, whatever order an honest kernel adds in.

A sum of terms t_k with running sums s_k has the error variance u^2 (sum s_k^2 + sum t_k^2), to
first order and with independent roundings. The order belongs to the kernel, therefore sum s_k^2 is
the largest of that of the given order, forwards and backwards, of two chains, one of the even and
one of the odd terms (each may be far from zero where both together are not), and of a random
order's expectation, (n+1) (Q/6 + S^2/3) with S = sum t_k and Q = sum t_k^2. Pairwise sums, lanes,
blocks and split sums have smaller running sums; a fused multiply-add rounds no term.

Roundings are not independent where terms are equal: adding one constant rounds the same way each
time until the exponent changes, and the errors add up like u n S/2. `_drift` has that where the
terms' spread is below the running sum's last place; a plain sum is also added up in float32 itself,
both ways.

Sources: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., sections 4.2 and 4.3;
Higham and Mary, SIAM J. Sci. Comput. 41 (2019) A2815.
"""

from collections.abc import Callable

import numpy as np
import torch

UNIT = 2.0**-24  # unit round-off of float32, the declared accumulator
LONG = 4096  # terms
CHUNKS = 8  # points at which a product's running sums are looked at


def _drift(total, squares, count):
    """Variance, in units of u^2, of the rounding of `count` equal terms; 0 where terms differ."""
    part = count.clamp_max(LONG)  # longer sums are expected to be made of such parts
    spread = (squares / count - (total / count) ** 2).clamp_min(0)
    dither = spread / (2 * UNIT * total * part / count) ** 2  # against the sum's last place
    return (part * total / 2) ** 2 / (1 + dither.nan_to_num(posinf=1e300)) ** 2


def _two_chains(total, even, squares, count):
    """Sum of squares of the running sums of even and of odd terms, each straight but for chance,
    and of both together."""
    odd = total - even
    return count / 6 * (even * even + odd * odd + squares / 2) + total * total


def variance(total, squares, count, walked):
    """Error variance of a sum in units of u^2: any honest order, and the rounding of its terms."""
    any_order = (count + 1) * (squares / 6 + total * total / 3)
    running = torch.maximum(any_order, walked) + _drift(total, squares, count.clamp_min(1))
    return torch.where(count > 1, running, 0.0) + squares


def _counted(terms, total, whole: int, count: Callable):
    """How many terms are not zero (adding a zero rounds nothing)."""
    if any(bool((term == 0).any()) for term in terms):
        return count()
    return torch.full_like(total, whole)


def _float32_walk(terms):
    """Errors of float32 sums of `terms` from first to last, in units of u.

    Beyond LONG terms in parts of that many: one after another, millions of terms stop counting.
    """
    if terms.shape[-1] > LONG:
        parts = torch.nn.functional.pad(terms, (0, -terms.shape[-1] % LONG))
        parts = parts.unflatten(-1, (-1, LONG))
        return _float32_walk(parts).sum(-1).abs() + _float32_walk(parts.sum(-1)).abs()
    rounded = terms.float()
    exact = rounded.double().sum(-1)
    with np.errstate(all="ignore"):
        walked = np.add.accumulate(rounded.numpy(), -1)[..., -1]
    error = (torch.from_numpy(np.array(walked, np.float64)) - exact) / UNIT
    return torch.where(error.isfinite(), error, 0.0)


def of_last_axis(terms, mean=False):
    """Sum over the last axis of `terms`, and its error variance in units of u^2. A `mean` may be
    kept up to date from term to term (Welford), where adding a zero rounds too."""
    running = terms.cumsum(-1)
    total = running[..., -1].clone()
    back = total[..., None] - running
    walked = torch.maximum((running * running).sum(-1), (back * back).sum(-1))
    count = _counted([] if mean else [terms], total, terms.shape[-1],
                     lambda: (terms != 0).sum(-1).to(terms))
    squares = (terms * terms).sum(-1)
    walked = torch.maximum(walked, _two_chains(total, terms[..., ::2].sum(-1), squares, count))
    own = variance(total, squares, count, walked)
    drift = torch.maximum(_float32_walk(terms).abs(), _float32_walk(terms.flip(-1)).abs())
    return total, own + drift * drift


def _walk(points, edges):
    """Sum of squares of running sums that go straight from point to point."""
    return sum((stop - start) / 3 * (p * p + p * q + q * q) for start, stop, p, q
               in zip(edges, edges[1:], points, points[1:], strict=False))


def of_product(a, b):
    """a @ b (two or more axes) in a few pieces, and its error variance in units of u^2."""
    depth = a.shape[-1]
    squares = (a * a) @ (b * b)
    edges = torch.linspace(0, depth, min(CHUNKS, max(depth, 1)) + 1).round().int().tolist()
    points = [torch.zeros_like(squares)]
    for start, stop in zip(edges, edges[1:], strict=False):
        points.append(points[-1] + a[..., start:stop] @ b[..., start:stop, :])
    total = points[-1]
    walked = torch.maximum(_walk(points, edges), _walk([total - point for point in points], edges))
    walked += squares * (depth / (6 * CHUNKS))
    count = _counted([a, b], total, depth,
                     lambda: ((a != 0).float() @ (b != 0).float()).to(total))
    even = a[..., ::2] @ b[..., ::2, :]
    walked = torch.maximum(walked, _two_chains(total, even, squares, count))
    return total, variance(total, squares, count, walked)


def of_rows(target, axis, index, source):
    """Rows of `source` added to rows of `target`: value, error variance in units of u^2, counts."""
    zero = torch.zeros_like(target)
    total = target.index_add(axis, index, source)
    squares = (target * target).index_add(axis, index, source * source)
    count = (target != 0).to(source).index_add(axis, index, (source != 0).to(source))
    return total, variance(total, squares, count, zero)
