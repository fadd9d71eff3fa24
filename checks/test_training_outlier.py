"""The window of recent losses: when it speaks, and that it resumes."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ported.training.outlier import Window, skips

SIZE = 128


def test_silent_until_full():
    window = Window(SIZE)
    assert [window.push(1e9 * i) for i in range(SIZE)] == [0.0] * SIZE
    assert window.push(1e30) > 5


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(0, 2 * SIZE))
def test_resumes_from_its_values(seed, cut):
    values = np.random.default_rng(seed).normal(size=2 * SIZE + 5).tolist()
    whole, first = Window(SIZE), Window(SIZE)
    for value in values[:cut]:
        whole.push(value), first.push(value)
    second = Window(SIZE, list(first.values))
    assert [whole.push(v) for v in values[cut:]] == [second.push(v) for v in values[cut:]]


def test_score_is_the_textbook_one():
    values = np.random.default_rng(0).normal(size=SIZE)
    expected = (9.0 - values.mean()) / values.std()
    assert math.isclose(Window(SIZE, values.tolist()).push(9.0), expected, rel_tol=1e-12)


def test_equal_values_then_another():
    assert Window(SIZE, [2.0] * SIZE).push(2.0) == 0
    assert Window(SIZE, [2.0] * SIZE).push(2.1) == math.inf
    assert Window(SIZE, [2.0] * SIZE).push(1.9) == -math.inf


def test_skips_only_upwards_and_only_when_asked():
    assert skips(5.1, 5.0) and not skips(5.0, 5.0) and not skips(-9.0, 5.0)
    assert not skips(math.inf, 0.0)
