"""Learning rates: bounds, ends, monotony, and no dependence on anything but the step."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ported.training.schedules import SCHEDULES

names = st.sampled_from(sorted(SCHEDULES))
lengths = st.integers(1, 400)
shares = st.floats(0, 1)


@settings(deadline=None)
@given(names, lengths, st.integers(0, 500), shares)
def test_within_bounds_and_one_hump(name, steps, warmup, final):
    rates = [SCHEDULES[name](step, steps, warmup, final) for step in range(steps)]
    assert all(0 <= rate <= 1 + 1e-12 and math.isfinite(rate) for rate in rates)
    top = min(warmup, steps)
    assert all(a < b for a, b in zip(rates[:top], rates[1:top], strict=False))
    assert all(a >= b - 1e-12 for a, b in zip(rates[top:], rates[top + 1:], strict=False))


@settings(deadline=None)
@given(names, st.integers(3, 400), shares, st.data())
def test_ends(name, steps, final, data):
    warmup = data.draw(st.integers(0, steps - 2))
    schedule = SCHEDULES[name]
    first = schedule(0, steps, warmup, final)
    assert first == pytest.approx(1 / warmup if warmup else 1)
    assert schedule(warmup, steps, warmup, final) == 1
    expected = 1 if name == "constant" else final
    assert schedule(steps - 1, steps, warmup, final) == pytest.approx(expected, abs=1e-12)
    assert schedule(steps + 5, steps, warmup, final) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name, expected", [
    ("cosine", 0.55), ("linear", 0.55), ("constant", 1.0), ("wsd", 1.0)])
def test_halfway(name, expected):
    assert SCHEDULES[name](50, 101, 0, 0.1) == pytest.approx(expected)


def test_wsd_falls_as_one_minus_root():
    quarter = SCHEDULES["wsd"](85, 101, 0, 0.0)   # a quarter of the way from 80 to 100
    assert quarter == pytest.approx(0.5)
