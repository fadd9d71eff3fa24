"""Outputs rounded up or down at random: what an honest one is, and what luck makes of its errors.

Of x between the neighbours a <= x <= b, a last place apart, the result is b with probability
f = (x - a) / (b - a): its error is 0 on average, and f (1 - f) last places squared in variance.
So whatever the errors are weighed by, as long as x alone decides the weight, they average out to
nothing within six of those standard deviations. Three weights tell the usual faults: the sign of x
(truncation), one (rounding up or down), and how near b is, f - 1/2 (rounding to nearest).
"""

import numpy as np

WEIGHTS = "away from zero", "upward", "toward the nearer neighbour"
FEWEST = 64  # elements from which a mean says something
FLOAT32 = 3.0  # float32's own errors, at most, over their scale: they shift f


def rounded(value: np.ndarray, seed: int) -> np.ndarray:
    """Float32 numbers as an honest kernel stores them in bfloat16."""
    bits = np.random.default_rng(seed).integers(0, 1 << 16, value.shape, np.uint32)
    words = np.ascontiguousarray(value, np.float32).view(np.uint32)
    return np.where(np.isnan(value), value, (words + bits & 0xFFFF0000).view(np.float32))


def biases(value: np.ndarray, scale: np.ndarray, error: np.ndarray, ulp: np.ndarray
           ) -> list[tuple[str, float, float]]:
    """(what, mean error in last places, how far chance lets it be from 0), of flat arrays; of too
    few elements nothing. `scale`: of float32's error before the rounding."""
    if value.size < FEWEST:
        return []
    up = value / ulp - np.floor(value / ulp)
    exact = ulp / (ulp + scale)  # an element that float32 hardly knows says little
    share, shifted = error / ulp * exact, FLOAT32 * scale / ulp * exact
    found = []
    for what, weight in zip(WEIGHTS, (np.sign(value), np.ones_like(up), 2 * up - 1), strict=True):
        spread = np.square(weight * exact) * (up * (1 - up) + np.minimum(shifted, 1))
        chance = 6 * np.sqrt(1 + spread.sum()) / value.size
        found.append((what, float((share * weight).mean()), float(chance + shifted.mean())))
    return found
