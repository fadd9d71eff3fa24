"""Learning rates as pure functions of the step: `schedule(step, steps, warmup, final)` in [0, 1].

The result multiplies the peak. Steps count from 0 to steps - 1. All rise linearly over the first
`warmup` steps, so that step 0 already moves; then each goes its way from 1 to `final`:

    cosine     half a cosine (Loshchilov and Hutter 2017, SGDR, without restarts)
    linear     a straight line
    constant   stays at 1
    wsd        stays at 1, then falls as 1 - sqrt over the last fifth (Haegele et al. 2024)
"""

import math
from collections.abc import Callable

DECAY = 0.2  # share of the steps over which wsd falls


def _progress(step: int, start: float, steps: int) -> float:
    """0 at `start`, 1 at the last step and after it."""
    span = steps - 1 - start
    return min(1.0, max(0.0, (step - start) / span)) if span > 0 else float(step >= start)


def _warm(step: int, warmup: int) -> float | None:
    return (step + 1) / warmup if step < warmup else None


def cosine(step: int, steps: int, warmup: int, final: float) -> float:
    share = 0.5 * (1 + math.cos(math.pi * _progress(step, warmup, steps)))
    return _warm(step, warmup) or final + (1 - final) * share


def linear(step: int, steps: int, warmup: int, final: float) -> float:
    return _warm(step, warmup) or 1 - (1 - final) * _progress(step, warmup, steps)


def constant(step: int, steps: int, warmup: int, final: float) -> float:
    return _warm(step, warmup) or 1.0


def wsd(step: int, steps: int, warmup: int, final: float) -> float:
    start = max(warmup, math.floor((steps - 1) * (1 - DECAY)))
    return _warm(step, warmup) or 1 - (1 - final) * math.sqrt(_progress(step, start, steps))


SCHEDULES: dict[str, Callable[[int, int, int, float], float]] = {
    schedule.__name__: schedule for schedule in (cosine, linear, constant, wsd)
}
