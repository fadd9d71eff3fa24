"""bfloat16 as it lies in memory: to nearest, ties to even, NaN stays NaN, however it is cut up."""

import numpy as np
import pytest
import torch

from ported import precision
from ported.precision import decode, encode


def patterns(count: int) -> np.ndarray:
    """Every upper half of a float with lower halves around the tie, then random ones."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    edges = np.concatenate([upper | low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])
    random = np.random.default_rng(0).integers(0, 2**32, count, dtype=np.uint32)
    return np.concatenate([edges, random]).view(np.float32)


@pytest.mark.parametrize("cores", [1, 3])
def test_bfloat16_is_rounded_as_torch_rounds(monkeypatch, cores):
    monkeypatch.setattr(precision, "MANY", 100_000)
    monkeypatch.setattr(precision.os, "sched_getaffinity", lambda pid: range(cores))
    values = patterns(100_003)
    found, nan = encode(values, "bfloat16"), np.isnan(values)
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy()
    assert np.array_equal(found[~nan], expected.view(np.uint16)[~nan])
    assert np.isnan(decode(found, "bfloat16"))[nan].all()


def test_shapes_and_nothing():
    assert encode(np.zeros((0, 3)), "bfloat16").shape == (0, 3)
    assert encode(np.ones((2, 3)).T, "bfloat16").tolist() == [[0x3F80, 0x3F80]] * 3
