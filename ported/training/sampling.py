"""One token from one row of logits: temperature, top-k, and a draw that a seed and place repeat."""

import numpy as np


def draw(seed: int, *place: int) -> float:
    """A uniform number in [0, 1) that depends on seed and place alone (a counter generator:
    Salmon et al. 2011), so sampling has no state to save."""
    counter = [*place, 0, 0, 0, 0][:4]
    bits = np.random.Philox(key=[seed, 0], counter=counter).random_raw()
    return float(int(bits) >> 11) * 2.0**-53


def pick(logits: np.ndarray, temperature: float, top_k: int, uniform: float) -> int:
    """Token drawn from softmax(logits / temperature) over the `top_k` likeliest.

    logits       [V], padding already cut off
    temperature  0: the likeliest token, the first of equals
    top_k        0 or >= V: all tokens; ties at the border are resolved towards lower tokens
    uniform      in [0, 1), from `draw`
    Raises ValueError where a logit is NaN or +infinite, naming the token.
    """
    row = np.asarray(logits, np.float64)
    bad = np.flatnonzero(np.isnan(row) | (row == np.inf))
    if bad.size or not np.isfinite(row).any():
        where = f"token {bad[0]} is {row[bad[0]]}" if bad.size else "all are -inf"
        raise ValueError(f"logits of a sample: {where}, expected finite logits")
    if temperature == 0:
        return int(row.argmax())
    order = np.argsort(-row, kind="stable")
    order = order[: top_k or row.size]
    weight = np.exp((row[order] - row[order[0]]) / temperature)
    total = np.cumsum(weight)
    index = int(np.searchsorted(total, uniform * total[-1], side="right"))
    return int(order[min(index, np.flatnonzero(weight)[-1])])
