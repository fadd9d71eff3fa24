"""Picking a token: likeliest, limits of top-k, frequencies, bad logits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ported.training.sampling import draw, pick

rows = arrays(np.float32, st.integers(1, 50), elements=st.floats(-50, 50, width=32))
uniforms = st.floats(0, 1, exclude_max=True)


@settings(deadline=None)
@given(rows, uniforms, st.floats(0.01, 10))
def test_temperature_zero_and_top_one_are_the_likeliest(row, uniform, temperature):
    assert pick(row, 0, 0, uniform) == pick(row, temperature, 1, uniform) == row.argmax()


@settings(deadline=None)
@given(rows, uniforms, st.integers(0, 60), st.floats(0.01, 10))
def test_token_is_among_the_top(row, uniform, top_k, temperature):
    token = pick(row, temperature, top_k, uniform)
    assert np.sum(row > row[token]) < (top_k or row.size)


def test_masked_tokens_are_never_drawn():
    row = np.array([-np.inf, 0.0, -np.inf, 0.0])
    assert {pick(row, 1.0, 0, u) for u in (0.0, 0.3, 0.5, 0.7, 1 - 2**-53)} == {1, 3}


def test_frequencies_follow_softmax():
    row = np.log([0.1, 0.2, 0.7])
    tokens = [pick(row, 1.0, 0, draw(7, step)) for step in range(4000)]
    assert np.bincount(tokens) / 4000 == pytest.approx([0.1, 0.2, 0.7], abs=0.03)


def test_draw_depends_on_seed_and_place_alone():
    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({draw(seed, a, b) for seed in (0, 1) for a in (0, 1) for b in (0, 1)}) == 8
    assert all(0 <= draw(9, i) < 1 for i in range(100))


@pytest.mark.parametrize("row, said", [
    ([0.0, np.nan], "token 1 is nan"),
    ([np.inf, 0.0], "token 0 is inf"),
    ([-np.inf], "all are -inf"),
])
def test_bad_logits(row, said):
    with pytest.raises(ValueError, match=said):
        pick(np.array(row), 1.0, 0, 0.5)
