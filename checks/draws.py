"""Numbers rounded at random, draw against draw.

at_random.py judges each launch for itself: it cannot tell bits that come again in every step, or
that neighbours share. Here launches are held against each other. An element x between the
neighbours a and b, f of the way from a to b, went up or did not (u is 1 or 0); u - f is 0 on
average, and so is

    the sum of (u - f) (u' - f')        over pairs of draws that know nothing of each other,

within six of its standard deviations, the root of the sum of f (1 - f) f' (1 - f'). The same bits
behind both give a twelfth of the number of pairs, where f and f' are spread evenly. Pairs: one
element in two launches that differ in `t`, in `seed` (its upper half, as a double, or its lower
one) or in both; elements some places apart, within a launch and between two. What a draw depends
on (reference/explicit: seed, t and the element's place) must give the same bits again.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np

from checks import cases
from checks.shapes import Shapes
from checks.trial import Broken, Subject, Trial

NAME = "draws"
SHAPES = ({"S": 4, "E": 2048}, {"S": 9, "E": 911})  # in packets of 8; in none
LONG = {"S": 80, "E": 2048}  # of one launch, for places far apart
FIRST = 3
STEPS = (FIRST, FIRST + 1, FIRST + 8, FIRST + (1 << 16))  # low bits, a packet further, high bits
SEEDS = (1.0, 2.0, 2.0**40, 2.0**40 + 1, 1 + 2.0**-52)  # doubles: upper word, upper, lower, lower
NEIGHBOURS = (1, 2, 3, 4, 5, 6, 7, 8)
FAR = (16, 32, 64, 128, 256, 512, 1024, 2048)  # lanes, blocks of threads or of packets
FARTHER = (4096, 8192, 1 << 14, 1 << 15, 1 << 16, 1 << 17)
SIGMAS = 6.0
FEWEST = 16.0  # a sum of f (1 - f) f' (1 - f') below this says nothing


class Draws(NamedTuple):
    """Of one launch, by element: how far it went beyond what was to be expected, away from zero;
    the variance of that; the sign of the number."""

    beyond: np.ndarray
    variance: np.ndarray
    sign: np.ndarray


def draws(subject: Subject, shapes: Shapes, seed: int) -> None:
    """Every pair of draws."""
    names = [name for name in subject.contract.at_random if narrow(subject, name)]
    known = {"seed", "t"} <= {*subject.contract.consts, *subject.contract.by_name}
    if not (names and known):
        subject.ledger.not_run[f"{NAME}: nothing is rounded at random here"] += 1
        return
    for number, wanted in enumerate((*SHAPES, LONG)):
        sizes = {axis: wanted.get(axis, 2) for axis in shapes.axes}
        if not (shapes.allowed(sizes) and subject.applies(sizes)):
            subject.ledger.not_run[f"{NAME}: shapes that the version cannot have"] += 1
            continue
        try:
            trial = Trial(subject, shapes._case(sizes, seed + number, "unit"), [NAME])
            (_far_apart if wanted is LONG else _at)(trial, names)
        except Broken:
            return


def narrow(subject: Subject, name: str) -> bool:
    """Whether the tensor `name` is narrower than float32 on this device."""
    role = subject.contract.by_name[name].role
    return subject.device.precision.dtypes[role] != "float32"


def _at(trial: Trial, names: list[str]) -> None:
    plans = [(t, SEEDS[0]) for t in STEPS] + [(STEPS[0], s) for s in SEEDS[1:]]
    plans.append((STEPS[1], SEEDS[1]))
    found: dict[str, dict] = {name: {} for name in names}
    for t, seed in plans:
        inputs = {**trial.inputs, "t": np.full_like(trial.inputs["t"], t), "seed": seed}
        first = trial.run(inputs)
        exact = cases.explicit(trial.contract, inputs)
        again = trial.run(inputs, fill="random", guard="random")
        for name in names:
            trial.equal(NAME, name, again.outputs[name], first.outputs[name],
                        f"t={t} and seed={seed!r} once more")
            found[name][t, seed] = of(exact[name], first.outputs[name])
    for name in names:
        _independent(trial, name, found[name])


def _far_apart(trial: Trial, names: list[str]) -> None:
    """One launch, so long that bits which come again after 2^12 to 2^17 elements meet."""
    exact, got = cases.explicit(trial.contract, trial.inputs), trial.run()
    for name in names:
        one = of(exact[name], got.outputs[name])
        for away in FARTHER:
            _pair(trial, name, one, one, away, f"elements {away} apart")


def of(exact: np.ndarray, got: np.ndarray) -> Draws:
    """From the exact numbers and what was stored of them as bfloat16."""
    exact, got = (np.asarray(each, np.float32).reshape(-1) for each in (exact, got))
    bits = exact.view(np.uint32)
    place = (bits & 0xFFFF) / 2.0**16  # of the way to the neighbour away from zero
    low = (bits & 0xFFFF0000).view(np.float32)
    went = np.abs(got) > np.abs(low)
    usable = np.isfinite(exact) & np.isfinite(got)
    return Draws(np.where(usable, went - place, 0), np.where(usable, place * (1 - place), 0),
                 np.sign(exact))


def _independent(trial: Trial, name: str, found: dict[tuple[int, float], Draws]) -> None:
    for (t, seed), one in found.items():
        for away in (*NEIGHBOURS, *FAR):
            _pair(trial, name, one, one, away, f"elements {away} apart, t={t}, seed={seed!r}")
    for (plan, one), (other_plan, other) in combinations(found.items(), 2):
        what = "launches of (t, seed) = ({}, {!r}) and ({}, {!r})".format(*plan, *other_plan)
        _pair(trial, name, one, other, 0, what)
        for away in NEIGHBOURS:
            _pair(trial, name, one, other, away, f"{what}, elements {away} apart")
            _pair(trial, name, other, one, away, f"{what}, elements {away} apart")


def _pair(trial: Trial, name: str, one: Draws, other: Draws, away: int, what: str) -> None:
    for kind, sigmas in correlations(one, other, away):
        trial.ledger.ran(NAME, abs(sigmas) / SIGMAS)
        if not abs(sigmas) <= SIGMAS:
            trial.refuse(NAME, name, f"{name}: draws {kind} of {what}: found them to go together "
                         f"by {sigmas:.1f} standard deviations, expected at most {SIGMAS:g}: they "
                         "share random bits", abs(sigmas) / SIGMAS)


def correlations(one: Draws, other: Draws, away: int = 0) -> Iterator[tuple[str, float]]:
    """(which way, standard deviations) of element i of the one and i + away of the other: away
    from zero, and upward."""
    size = min(one.beyond.size, other.beyond.size) - away
    if size < 1:
        return
    here, there = slice(0, size), slice(away, size + away)
    product = one.beyond[here] * other.beyond[there]
    variance = float((one.variance[here] * other.variance[there]).sum())
    if variance < FEWEST:
        return
    yield "away from zero", float(product.sum()) / variance**0.5
    signs = one.sign[here] * other.sign[there]
    yield "upward", float((product * signs).sum()) / variance**0.5
