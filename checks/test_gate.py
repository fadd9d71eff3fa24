"""The gate on trial: what it must refuse, and what it must never accuse.

The thousand-seed run of the honest variants is `python -m checks.gate --calibrate --seeds 1000`;
here a sample of it runs, with other seeds than the stored one's.
"""

import json

import numpy as np
import pytest
import torch

from checks import cases, decoys, gate, honest, known, rounding, sampling, steps
from ported import contract as contracts
from reference.explicit import layernorm

CONTRACTS = contracts.read_all()
SHAPES = (
    {"B": 2, "T": 9, "N": 33, "C": 48, "O": 40, "H": 3, "D": 8, "V": 75, "Vp": 80, "Tmax": 12,
     "S": 6, "E": 64},
    {"B": 3, "T": 33, "N": 70, "C": 130, "O": 65, "H": 2, "D": 16, "V": 129, "Vp": 131, "Tmax": 40,
     "S": 3, "E": 257},
)


def case_of(name: str, shape=SHAPES[0], seed: int = 0, family: str = "randn") -> cases.Case:
    axes = tuple((axis, shape[axis]) for axis in cases.axes_of(CONTRACTS[name]))
    return cases.Case(name, axes, seed, family)


def truth_of(name: str, **how) -> gate.Truth:
    return known.of(case_of(name, **how), CONTRACTS[name]).truth


def float32(array) -> np.ndarray:
    return np.asarray(array).astype(np.float32)


def truncated(array, bits: int = 24) -> np.ndarray:
    """Cut off towards zero after `bits` bits of significand."""
    fraction, exponent = np.frexp(np.asarray(array, np.float64))
    return np.ldexp(np.trunc(np.ldexp(fraction, bits)), exponent - bits).astype(np.float32)


def checks_of(findings) -> set[str]:
    return {finding.check for finding in findings}


@pytest.mark.parametrize("name", CONTRACTS)
def test_truth_itself_is_accepted_and_the_usual_wrong_results_are_not(name):
    truth = truth_of(name)
    for output, value in truth.value.items():
        assert gate.judge(truth, output, float32(value))[0] == []
        for wrong, check in ((np.full_like(value, np.nan), "class"), (1.07 * value, "element"),
                             (0.93 * value, "element"), (np.full_like(value, np.inf), "class")):
            findings, ratio = gate.judge(truth, output, float32(wrong))
            assert check in checks_of(findings) and ratio > 1, (name, output, findings)


@pytest.mark.parametrize("name", CONTRACTS)
def test_one_element_one_percent_off_is_refused(name):
    random = np.random.default_rng(3)
    truth = truth_of(name, shape=SHAPES[1])
    for output, value in truth.value.items():
        sound = np.flatnonzero(np.abs(value) > 1000 * truth.scale[output])
        for at in random.choice(sound, 20):
            wrong = float32(value)
            wrong.flat[at] *= np.float32(1.01)
            findings, _ = gate.judge(truth, output, wrong)
            assert findings and str(list(map(int, np.unravel_index(at, value.shape)))) in (
                findings[0].message)


# Decoys that no case can tell from the truth, and why.
NEVER = {"global_norm_update": {"mean", "shuffled", "transposed", "rolled by an element",
                                "other inputs"},  # its outputs are single numbers
         "adamw_stochastic_update": {"seed taken as 0"}}  # which chooses among right results


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_decoy_is_refused(name):
    contract, seen = CONTRACTS[name], {}
    tried = [case_of(name, shape, seed, family) for seed, (shape, family) in enumerate(
        (shape, family) for family in ("randn", "tiny", "denormal") for shape in SHAPES)]
    for case in tried:
        found = known.of(case, contract)
        verdicts = decoys.self_test(contract, found.inputs, found.truth, seed=case.seed)
        assert "ACCEPTED" not in verdicts.values(), (str(case), verdicts)
        for decoy, verdict in verdicts.items():
            seen.setdefault(decoy, set()).add(verdict)
    never = {decoy for decoy, verdicts in seen.items() if "rejected" not in verdicts}
    assert never <= NEVER.get(name, set()) | {d for d in never if d.endswith("its mean")
                                              or d.startswith("copy")}


def test_honest_results_are_accepted():
    from ported.device import cpu

    found = honest.calibrate(range(5000, 5002), cpu.open(1))
    assert found["results"] > 900
    assert found["refused"] == []
    assert max(entry[0] for entry in found["worst"].values()) < 0.9 * gate.SLACK


def test_calibration_on_file_leaves_headroom():
    for stored in json.loads(honest.GOLDEN.read_text()).values():
        assert stored["slack"] == gate.SLACK and stored["refused"] == []
        assert max(entry[0] for entry in stored["worst"].values()) < 0.9 * gate.SLACK
        assert {key.split()[0] for key in stored["worst"]} == set(CONTRACTS)


FAULTY = [(fault, name) for fault, names in {
    "dropped last term": ("linear_forward", "layernorm_forward", "layernorm_backward",
                          "attention_forward", "cross_entropy_forward", "global_norm_update"),
    "bfloat16 sums": ("linear_forward", "linear_backward", "layernorm_forward", "softmax_forward",
                      "attention_backward", "global_norm_update"),
    "TF32 products": ("linear_forward", "head_backward", "attention_forward",
                      "gelu_linear_backward"),
    "bfloat16 products": ("linear_gelu_backward", "attention_backward"),
    "n - 1": ("layernorm_forward", "layernorm_backward", "residual_layernorm_backward"),
    "crude exp": ("softmax_forward", "gelu_forward", "attention_backward", "classifier_forward"),
}.items() for name in names]


@pytest.mark.parametrize("fault,name", FAULTY)
def test_faults_of_precision_are_refused(fault, name):
    for seed in range(3):
        found = known.of(case_of(name, SHAPES[1], seed), CONTRACTS[name])
        wrong = honest.result(CONTRACTS[name], found.inputs, honest.Wrong(fault))
        assert any(gate.judge(found.truth, output, got)[0] for output, got in wrong.items())


def test_rounded_factors_are_accepted_where_they_are_declared():
    case, contract = case_of("linear_forward", SHAPES[1]), CONTRACTS["linear_forward"]
    inputs = known.of(case, contract).inputs
    for products in ("tf32", "bfloat16"):
        truth = gate.truth_of(contract, inputs, products=products)
        fault = {"tf32": "TF32 products", "bfloat16": "bfloat16 products"}[products]
        got = honest.result(contract, inputs, honest.Wrong(fault))["out"]
        assert gate.judge(truth, "out", got)[0] == []
        assert gate.judge(truth, "out", np.float32(1.2) * got)[0]


def test_variance_as_a_difference_of_means_is_refused_and_two_passes_are_not():
    random = np.random.default_rng(5)
    x = float32(1000 + random.standard_normal((64, 768)))
    weight, bias = float32(random.standard_normal((2, 768)))
    inputs = {"inp": x, "weight": weight, "bias": bias, "eps": 1e-5}
    truth = gate.truth_of(CONTRACTS["layernorm_forward"], inputs)
    mean = x.mean(1, dtype=np.float32, keepdims=True)
    for variance, accepted in (((x * x).mean(1, keepdims=True) - mean * mean, False),
                               (np.square(x - mean).mean(1, keepdims=True), True)):
        out = (x - mean) / np.sqrt(np.maximum(variance, 0) + np.float32(1e-5)) * weight + bias
        assert (gate.judge(truth, "out", out)[0] == []) is accepted


def test_wrong_eps_is_refused():
    found = known.of(case_of("layernorm_forward"), CONTRACTS["layernorm_forward"])
    other = {**found.inputs, "eps": 10 * found.inputs["eps"]}
    wrong = gate.truth_of(CONTRACTS["layernorm_forward"], other).value["out"]
    assert gate.judge(found.truth, "out", float32(wrong))[0]


def test_nothing_absolute_hides_gradients_of_3e_9():
    random = np.random.default_rng(1)
    vocabulary = 50000
    inputs = {"logits": float32(random.standard_normal((4, vocabulary))),
              "targets": np.array([0, 7, 49999, 123], np.int32),
              "dscale": np.array([1 / 4096], np.float32), "V": vocabulary}
    truth = gate.truth_of(CONTRACTS["classifier_forward"], inputs, elements=1 << 20)
    value = truth.value["logits"]
    rows = np.arange(4)
    assert np.median(np.abs(value)) < 5e-9
    assert gate.judge(truth, "logits", float32(value))[0] == []
    only_targets = np.zeros_like(value)
    only_targets[rows, inputs["targets"]] = value[rows, inputs["targets"]]
    for wrong in (only_targets, value + 3e-9, value * 1.001,
                  np.where(value > 0, value + 1e-13, value)):
        assert gate.judge(truth, "logits", float32(wrong))[0]


def test_exact_zeros_stay_exact():
    found = known.of(case_of("cross_entropy_backward"), CONTRACTS["cross_entropy_backward"])
    got = float32(found.truth.value["dlogits"])
    assert not got[:, 75:].any()
    got[3, 77] = 1e-45
    assert gate.judge(found.truth, "dlogits", got)[0][0].check == "element"


@pytest.mark.parametrize("name", ["residual_forward", "linear_forward", "embedding_forward"])
def test_truncation_is_biased_and_rounding_is_not(name):
    truth = truth_of(name, shape=SHAPES[1])
    output, value = next(iter(truth.value.items()))
    assert gate.judge(truth, output, float32(value))[0] == []
    short = truncated(value, 8)
    nearest = torch.from_numpy(float32(value)).bfloat16().float().numpy()
    assert gate.judge(truth, output, nearest, dtype="bfloat16")[0] == []
    assert "bias" in checks_of(gate.judge(truth, output, short, dtype="bfloat16")[0])
    if name != "linear_forward":  # one rounding alone: truncating even float32 shows
        assert "bias" in checks_of(gate.judge(truth, output, truncated(value))[0])


def test_long_sums_one_after_another_are_worse_than_stock():
    random = np.random.default_rng(2)
    dout = float32(random.standard_normal((8192, 64)))
    inputs = {"dout": dout, "inp": dout[:, :3].copy(), "weight": dout[:64, :3].copy()}
    truth = gate.truth_of(CONTRACTS["linear_backward"], inputs)
    stock = torch.from_numpy(dout).sum(0).numpy()
    naive, pairwise = (honest.SUMS[order](dout.T) for order in ("sequential", "pairwise"))
    assert gate.judge(truth, "dbias", naive)[0] == []
    assert "stock" in checks_of(gate.judge(truth, "dbias", naive, stock=stock)[0])
    assert gate.judge(truth, "dbias", pairwise, stock=stock)[0] == []


def test_what_stands_in_a_sum_is_added_to():
    truth = truth_of("layernorm_backward")
    for output, value in truth.value.items():
        start = float32(np.random.default_rng(4).standard_normal(value.shape))
        assert gate.judge(truth, output, start + float32(value), start=start)[0] == []
        for wrong in (value, start, start + 2 * value, start - value):
            assert gate.judge(truth, output, float32(wrong), start=start)[0]


def test_rows_that_nothing_is_added_to_keep_what_stands_there():
    truth = truth_of("embedding_backward", shape=SHAPES[1])
    value = truth.value["dwte"]
    empty = np.flatnonzero(~value.any(1))
    start = float32(np.random.default_rng(4).standard_normal(value.shape))
    got = start + float32(value)
    assert empty.size and gate.judge(truth, "dwte", got, start=start)[0] == []
    got[empty[0], 1] = np.nextafter(got[empty[0], 1], np.float32(9))
    assert gate.judge(truth, "dwte", got, start=start)[0][0].check == "element"


def test_what_overflows_float32_must_be_infinite_and_the_last_bit_is_free():
    largest = np.finfo(np.float32).max
    inp1 = np.array([[3e38, -3e38, largest, 1.0]], np.float32)
    inp2 = np.array([[3e38, -3e38, 2.0**103, 1.0]], np.float32)
    truth = gate.truth_of(CONTRACTS["residual_forward"], {"inp1": inp1, "inp2": inp2})
    for last in (np.inf, largest):
        right = np.array([[np.inf, -np.inf, last, 2]], np.float32)
        assert gate.judge(truth, "out", right)[0] == []
    for wrong in ([largest, -np.inf, last, 2], [np.inf, np.inf, last, 2],
                  [np.inf, -np.inf, last, np.inf], [np.inf, -np.inf, np.nan, 2],
                  [np.inf, -np.inf, -np.inf, 2]):
        assert gate.judge(truth, "out", float32([wrong]))[0][0].check == "class"


def test_nan_and_infinity_stand_where_the_truth_has_them():
    inputs = {"inp": float32([[1, np.nan, 3], [1, 2, 3], [-np.inf, 1, 2]])}
    truth = gate.truth_of(CONTRACTS["softmax_forward"], inputs)
    right = float32(truth.value["out"])
    assert np.isnan(right[0]).all() and right[2, 0] == 0
    assert gate.judge(truth, "out", right)[0] == []
    for at, number in (((0, 0), 0.5), ((1, 1), np.nan), ((2, 0), np.nan), ((1, 2), np.inf)):
        wrong = right.copy()
        wrong[at] = number
        assert gate.judge(truth, "out", wrong)[0][0].check == "class"


def test_large_cases_are_judged_at_edges_and_at_random():
    contract = CONTRACTS["head_forward"]
    random = np.random.default_rng(0)
    inputs = {"inp": float32(random.standard_normal((512, 64))),
              "weight": float32(random.standard_normal((9000, 64)))}
    truth = gate.truth_of(contract, inputs)
    assert 1e4 < truth.value["logits"].size < sampling.ELEMENTS
    right = inputs["inp"] @ inputs["weight"].T
    assert gate.judge(truth, "logits", right, stock=right)[0] == []
    for tile in ((slice(0, 64), slice(0, 64)), (slice(-1, None), slice(-5, None)),
                 (slice(None), slice(4096, 4160))):
        wrong = right.copy()
        wrong[tile] = 0
        assert gate.judge(truth, "logits", wrong)[0]
    wrong = right.copy()
    judged = truth.parts[0].kept
    wrong[np.setdiff1d(np.arange(512), judged.get("N", []))[0] if "N" in judged else 5,
          np.setdiff1d(np.arange(9000), judged["Vp"])[0]] = np.nan
    assert gate.judge(truth, "logits", wrong)[0][0].check == "class"
    assert "ACCEPTED" not in decoys.self_test(contract, inputs, truth, seed=1).values()


def test_independent_axes_are_found_by_trying():
    assert set(sampling.independent("linear_backward")["dweight"]) == {"O", "C"}
    assert sampling.independent("layernorm_forward")["out"] == ("N",)
    assert set(sampling.independent("attention_backward")["dqkv"]) == {"B", "H"}
    assert sampling.independent("global_norm_update")["norm"] == ()


def test_a_step_that_the_scale_does_not_know_is_an_error_by_name():
    with pytest.raises(steps.UnknownStep, match="cumprod"):
        x = torch.ones(3, 3, dtype=torch.float64)
        steps.run(lambda: layernorm.Forward(x.cumprod(0), x, x), rounding.Propagate())


def test_another_shape_is_refused():
    truth = truth_of("softmax_forward")
    finding = gate.judge(truth, "out", np.zeros((3, 3), np.float32))[0][0]
    assert "found shape (3, 3), expected (33, 48)" in finding.message
