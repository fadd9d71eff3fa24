"""A window of recent values, and how far a new one stands from them in standard deviations.

A step whose loss or gradient norm stands too far out can be skipped (llm.c's -sl and -sg do the
same). The window is part of the checkpoint, so a resumed run skips the same steps.
"""

import math
from collections import deque
from collections.abc import Iterable


class Window:
    """The last `size` values, oldest first."""

    def __init__(self, size: int, values: Iterable[float] = ()):
        self.size, self.values = size, deque(values, maxlen=size)

    def push(self, value: float) -> float:
        """z-score of `value` against the window before it; then the value joins, outlier or not,
        so that a lasting change becomes the rule. 0 while the window fills; infinite where all
        values were equal and this one is greater."""
        score = self._score(value) if len(self.values) == self.size else 0.0
        self.values.append(value)
        return score

    def _score(self, value: float) -> float:
        mean = math.fsum(self.values) / self.size
        spread = math.sqrt(math.fsum((x - mean) ** 2 for x in self.values) / self.size)
        if spread == 0:
            return math.copysign(math.inf, value - mean) if value != mean else 0.0
        return (value - mean) / spread


def skips(score: float, limit: float) -> bool:
    """Whether a step with this score is left out. Only upwards: a sudden fall is no accident."""
    return limit > 0 and score > limit
