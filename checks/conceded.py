"""How far a version may stray by what it concedes (ported.directives.CONCESSIONS), for the gate."""

import numpy as np

SMALLEST = 2.0**-126  # normal number of float32
# Tensor cores cut a sum off at every step of 16 terms, toward zero.
CHOPPED = 0.125  # ulp that short sums lean beyond rounding; on an H200: 0.07
DRIFT = 1 / 32  # of sqrt(n) scales, by which n terms drift; on an H200: 0.015 to 0.024


def errors(terms: float, concedes: tuple[str, ...]) -> tuple[float, float]:
    """Of a sum of so many `terms`: what may be lost of it (a denormal for each term and each
    addition), and by how many of its scales it may drift."""
    return (2 * SMALLEST * terms if "denormals" in concedes else 0.0,
            DRIFT * float(np.sqrt(terms)) if "chopped" in concedes else 0.0)


def lean(drift: float, weight: np.ndarray) -> float:
    """How far errors may lean toward zero, in ulps on average, where sums may drift. `weight`: of
    each element, the share of its last place in last place and scale together."""
    return CHOPPED + drift * (1 - float(weight.mean())) if drift else 0.0
