"""What a call leaves for the next: its scratch, and whatever it keeps of its own.

A kernel may keep what it has computed, in scratch or in memory of its own, and take it for the
answer when it seems to be asked the same again: the same addresses, sizes, first and last numbers,
or sums. So a call is made on nearly the same inputs, all numbers but the first and the last of each
tensor in the opposite order, or on wholly others; then the inputs are put in place, and nothing
else: scratch stays as it was left, and so do outputs that are overwritten. No trainer clears those
either. And two axes exchange their sizes from one call to the next.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np

from checks import known
from checks.cases import Case
from checks.late import trials
from checks.shapes import HOME, Shapes
from checks.trial import Subject, Trial

NAME = "leftovers"
SHAPES = ("odd", "over", "even")


def nearly(inputs: dict, contract) -> dict:
    """The same inputs, the middle of each tensor of numbers turned round."""
    found = dict(inputs)
    for tensor in contract.inputs:
        array = np.asarray(inputs[tensor.name])
        if array.size > 3 and not (tensor.role == "I32" and tensor.dyn):
            flat = array.reshape(-1).copy()
            flat[1:-1] = flat[-2:0:-1].copy()
            found[tensor.name] = flat.reshape(array.shape)
    return found


def swapped(subject: Subject, shapes: Shapes, seed: int) -> Iterator[Case]:
    """Cases by turns, of which every other has the sizes of two axes exchanged: what depends on one
    of them and was kept under their product is not this case's."""
    home = shapes.spine().get(HOME)
    for one, other in combinations(shapes.axes if home else (), 2):
        for sizes in (home, {**home, one: home[other], other: home[one]}):
            if shapes.allowed(sizes) and subject.applies(sizes) and subject.affords(sizes) and not (
                    {one, other} & set(subject.version.static)):
                yield shapes._case(sizes, seed, "randn")


def leftovers(subject: Subject, shapes: Shapes, seed: int) -> None:
    """The gate on a call after another one on the same memory, of which only inputs are renewed."""
    for case in swapped(subject, shapes, seed):
        trial = Trial(subject, case, [NAME])
        trial.judge(trial.run(), [NAME], "after a call at other sizes: ", stock=False)
    for _, trial in trials(subject, shapes, seed, SHAPES, NAME):
        other = known.of(replace(trial.case, seed=trial.case.seed + 1), trial.contract)
        for what, before in (("nearly the same", nearly(trial.inputs, trial.contract)),
                             ("other", other.inputs)):
            trial.judge(trial.run(before=before), [NAME], f"after a call on {what} inputs: ",
                        stock=False)
