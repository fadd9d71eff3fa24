"""AdamW on master weights: the optimizer's own weights, and the rounded ones that the model reads.

    master, m, v <- adamw(master, dweight, m, v)      formulas and sources: `adamw`
    weight = master                                   rounded by being stored as a parameter

Why two sets of weights: bfloat16 keeps 8 bits of a number, so that neighbouring weights lie about
1/256 of their size apart. A step moves a weight by about lr, often by less than half of that gap,
and a weight that is rounded after every such step never moves at all. The masters keep what the
rounded weights cannot show, until enough steps have gathered to cross the gap.

`weight` is overwritten and not read: it always follows from `master`. Where parameters are stored
as float32 the two are equal.

Source: Micikevicius et al., "Mixed Precision Training", 2017 (arXiv:1710.03740), section 3.1.
"""

from typing import NamedTuple

from reference.explicit import adamw
from reference.shapes import F32, I32, Const, Dyn, G, InOut, P


class Update(NamedTuple):
    weight: P["S E"]
    master: InOut[F32, "S E"]
    m: InOut[F32, "S E"]
    v: InOut[F32, "S E"]


def update(
    master: InOut[F32, "S E"],
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
) -> Update:
    """The new master weights and moments [S, E] after step `t`, and the weights to compute with."""
    new = adamw.update(master, dweight, m, v, decay, scale, lr, t, beta1, beta2, eps, weight_decay)
    return Update(new.weight, new.weight, new.m, new.v)
