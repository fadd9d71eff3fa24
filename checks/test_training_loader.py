"""The order of data: a permutation an epoch, the same for every cut into batches, resumable."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.training_run import write_tokens
from ported.training.errors import BadInput
from ported.training.loader import Loader, in_order, shuffled
from ported.training.tokens import Tokens


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = write_tokens(tmp_path_factory.mktemp("data") / "a.bin", range(200))
    return Tokens([path], 7)  # 28 windows


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**63), st.integers(0, 5))
def test_shuffle_is_a_permutation(count, seed, epoch):
    assert sorted(shuffled(i, count, seed, epoch) for i in range(count)) == list(range(count))


def test_shuffle_looks_random():
    """Position against place: uncorrelated; seeds and epochs differ; huge counts cost nothing."""
    order = [shuffled(i, 2000, 1, 0) for i in range(2000)]
    assert abs(np.corrcoef(order, range(2000))[0, 1]) < 0.08
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.08
    others = [[shuffled(i, 2000, s, e) for i in range(2000)] for s, e in ((1, 1), (2, 0))]
    assert all(sum(a == b for a, b in zip(order, other, strict=True)) < 10 for other in others)
    assert 0 <= shuffled(10**14, 10**15 + 1, 0, 0) <= 10**15


def stream(data, cuts, seed=3, **settings):
    loader = Loader(data, seed, **settings)
    parts = [loader.next(cut) for cut in cuts]
    return [np.concatenate(side) for side in zip(*parts, strict=True)]


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(0, 9))
def test_cut_into_batches_does_not_matter(data, cuts, seed):
    for one, other in zip(stream(data, cuts, seed), stream(data, [1] * sum(cuts), seed),
                          strict=True):
        assert one.dtype == np.int32 and (one == other).all()


@settings(deadline=None)
@given(st.integers(0, 90), st.integers(1, 9))
def test_resume_is_exact(data, before, after):
    whole, first, second = Loader(data, 5), Loader(data, 5), Loader(data, 5)
    for loader in (whole, first):
        [loader.next(1) for _ in range(before)]
    second.restore(first.state(), "checkpoint")
    assert (second.next(after)[0] == whole.next(after)[0]).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 40))
def test_what_is_read_ahead_is_used_at_its_own_place_alone(data, ahead, wanted, other):
    """Whatever was read ahead: another batch size, another place, and the same once more."""
    loader, plain = Loader(data, 5), Loader(data, 5)
    loader.prepare(ahead)
    assert loader.taken == 0 and loader.state() == plain.state()
    assert (loader.next(wanted)[0] == plain.next(wanted)[0]).all()
    loader.prepare(wanted)
    for each in (loader, plain):
        each.restore({**each.state(), "taken": other}, "checkpoint")
    assert (loader.next(wanted)[1] == plain.next(wanted)[1]).all()
    loader.prepare(ahead)
    assert all((loader.next(ahead)[0] == plain.next(ahead)[0]).all() for _ in range(2))


def test_epoch_covers_everything_once(data):
    tokens, targets = stream(data, [4] * 14)
    assert (targets == tokens + 1).all()  # the file counts upwards
    for epoch in (tokens[:28], tokens[28:]):
        assert sorted(epoch[:, 0]) == list(range(0, 196, 7))
    assert (tokens[:28] != tokens[28:]).any()


def test_overfitting_repeats_one_batch(data):
    tokens, _ = stream(data, [4, 4, 4], only=4)
    assert (tokens[:4] == tokens[4:8]).all() and (tokens[:4] == tokens[8:]).all()
    with pytest.raises(BadInput, match="(?s)--overfit.*28 sequences.*--batch 29"):
        Loader(data, 0, only=29)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 40))
def test_validation_does_not_depend_on_the_batch(data, batch, limit):
    rows = [row for tokens, _, count in in_order(data, batch, limit) for row in tokens[:count]]
    assert all(tokens.shape == (batch, 7) for tokens, _, _ in in_order(data, batch, limit))
    assert [row[0] for row in rows] == [7 * i for i in range(min(limit or 28, 28))]


def test_other_data_is_refused(data, tmp_path):
    other = Tokens([write_tokens(tmp_path / "b.bin", range(100))], 7)
    with pytest.raises(BadInput) as caught:
        Loader(other, 4).restore(Loader(data, 3).state(), "runs/x")
    for part in ["against runs/x", "windows 14", "windows 28", "seed 4", "seed 3", "--data"]:
        assert part in str(caught.value)
