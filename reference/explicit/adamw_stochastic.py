"""AdamW on narrow weights without masters: the new weight is rounded up or down at random.

    weight, m, v <- adamw(weight, dweight, m, v)      formulas and sources: `adamw`

and where parameters are narrower than float32, the exact x that adamw gives is stored as one of
its two neighbours, a <= x <= b, drawn anew for each element and step:

    b with probability (x - a) / (b - a), else a.

Why the expectation is right: a + (b - a) (x - a) / (b - a) = x. Rounding to nearest drops every
step below half the gap between neighbours (about 1/256 of a weight in bfloat16, see `adamw_master`)
however many come; here a step of a hundredth of the gap moves the weight once in a hundred times,
and the many small steps arrive. The price is noise: one rounding errs by (x - a) (b - x) in the
mean square, at most a quarter of the gap's square. A number that the dtype holds stays as it is.

`seed`, `t` and the element's place are all that a draw depends on, so that a run repeats bit for
bit. `seed` is any double; it draws and enters no formula. What this function returns is x itself:
in float32, which holds it, nothing is drawn. ROUNDED says of which outputs either neighbour is a
right result; the gate reads it.

Source: Gupta et al., "Deep Learning with Limited Numerical Precision", 2015 (arXiv:1502.02551),
section 3; Zamirai et al., "Revisiting BFloat16 Training", 2020 (arXiv:2010.06192), section 4.
"""

from typing import NamedTuple

from reference.explicit import adamw
from reference.shapes import F32, I32, Const, Dyn, G, InOut, P

ROUNDED = {"update": ("weight",)}


class Update(NamedTuple):
    weight: InOut[P, "S E"]
    m: InOut[F32, "S E"]
    v: InOut[F32, "S E"]


def update(
    weight: InOut[P, "S E"],
    dweight: G["S E"],
    m: InOut[F32, "S E"],
    v: InOut[F32, "S E"],
    decay: F32["S"],
    scale: F32["1"],
    lr: Dyn,
    t: Dyn[I32],
    beta1: Const = 0.9,
    beta2: Const = 0.95,
    eps: Const = 1e-8,
    weight_decay: Const = 0.1,
    seed: Const = 1,
) -> Update:
    """The new weights, not rounded yet, and moments [S, E] after step `t`."""
    return Update(*adamw.update(weight, dweight, m, v, decay, scale, lr, t, beta1, beta2, eps,
                                weight_decay))
