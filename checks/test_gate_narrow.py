"""The gate in bfloat16: what it must refuse, and what it must never accuse."""

import numpy as np
import pytest

from checks import cases, decoys, gate, honest, known, storage
from checks.test_gate import CONTRACTS, SHAPES, checks_of, truncated
from ported import precision as precisions

BFLOAT16 = precisions.of("bfloat16")
NARROW = {name: [t.name for t in contract.outputs if BFLOAT16.dtypes[t.role] == "bfloat16"]
          for name, contract in CONTRACTS.items()}
OUTPUTS = [(name, output) for name, outputs in NARROW.items() for output in outputs
           if name != "residual_backward"  # which copies, so that nothing is rounded
           and output not in CONTRACTS[name].at_random]  # those: test_stochastic_rounding.py


def known_of(name: str, seed: int = 0) -> known.Known:
    axes = tuple((axis, SHAPES[1][axis]) for axis in cases.axes_of(CONTRACTS[name]))
    return known.of(cases.Case(name, axes, seed, "randn", "bfloat16"), CONTRACTS[name])


def plain(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """The explicit function in float32, its outputs not rounded yet."""
    return honest.result(CONTRACTS[name], known_of(name, seed).inputs, honest.Ordered("lanes"))


@pytest.mark.parametrize("name", CONTRACTS)
def test_what_is_drawn_is_what_memory_holds(name):
    contract, found = CONTRACTS[name], known_of(name)
    for tensor in contract.inputs:
        dtype, value = BFLOAT16.dtypes[tensor.role], found.inputs[tensor.name]
        assert np.array_equal(precisions.rounded(value, dtype), value, equal_nan=True)
    for output, start in found.starts(contract).items():
        dtype = found.truth.dtypes[output]
        assert np.array_equal(precisions.rounded(start, dtype), start)


@pytest.mark.parametrize("name,output", OUTPUTS)
def test_rounding_to_nearest_is_accepted_and_truncation_and_seven_percent_are_not(name, output):
    found, value = known_of(name), plain(name)[output]
    stock = found.stock.get(output)
    right = precisions.rounded(value, "bfloat16")
    assert gate.judge(found.truth, output, right, stock=stock)[0] == []
    assert "bias" in checks_of(gate.judge(found.truth, output, truncated(value, 8))[0])
    wrong = precisions.rounded(np.float32(1.07) * value, "bfloat16")
    assert "element" in checks_of(gate.judge(found.truth, output, wrong)[0])


SUMMING = [name for name in CONTRACTS if name not in (
    "adamw_update", "adamw_master_update", "adamw_stochastic_update", "cross_entropy_backward",
    "embedding_forward", "gelu_forward", "gelu_backward", "residual_forward", "residual_backward")]


@pytest.mark.parametrize("fault", ["dropped last term", "bfloat16 sums"])
@pytest.mark.parametrize("name", SUMMING)
def test_sums_are_whole_and_in_float32(name, fault):
    found = known_of(name)
    wrong = honest.result(CONTRACTS[name], found.inputs, honest.Wrong(fault), BFLOAT16)
    assert any(gate.judge(found.truth, output, got)[0] for output, got in wrong.items())


def test_honest_results_are_accepted():
    found = honest.calibrate(range(7000, 7002), precision="bfloat16")
    assert found["results"] > 700 and found["refused"] == []


@pytest.mark.parametrize("name,steps", [
    ("linear_forward", 0), ("layernorm_backward", 0), ("softmax_forward", 0),
    ("residual_layernorm_forward", 1), ("linear_gelu_forward", 1), ("gelu_linear_forward", 1),
    ("linear_gelu_backward", 1), ("attention_forward", 1), ("attention_backward", 2)])
def test_what_may_be_stored_on_the_way_is_found(name, steps):
    found = honest.marks_of(CONTRACTS[name], known_of(name).inputs, BFLOAT16)
    assert len(found) == steps, found
    assert not honest.marks_of(CONTRACTS[name], known_of(name).inputs, precisions.FLOAT32)


def test_rounding_what_bfloat16_holds_excuses_nothing():
    import torch

    held = torch.tensor([0.0, 1.0, -3.0, torch.inf, torch.nan], dtype=torch.float64)
    assert not storage.variance(held).any()
    third = storage.variance(torch.tensor([1 / 3], dtype=torch.float64)).sqrt()
    assert 2.0**-10 <= float(third) <= 2.0**-9


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_decoy_is_refused(name):
    for seed in range(2):
        found = known_of(name, seed)
        verdicts = decoys.self_test(CONTRACTS[name], found.inputs, found.truth, seed=seed)
        assert "ACCEPTED" not in verdicts.values(), verdicts
        assert list(verdicts.values()).count("rejected") > 4
