"""What a version concedes is excused, and nothing beside it."""

import numpy as np
import pytest

from checks import cases, gate
from checks.cases import Case
from ported import contract, precision, source
from ported.directives import CONCESSIONS, SourceError
from ported.precision import rounded

LINEAR = contract.of("linear_backward")
SHAPE = (("N", 2), ("O", 67), ("C", 131))  # short sums: the last place is what they round


def truth_of(size: float = 1.0) -> gate.Truth:
    """Of numbers of size one, the gradient of the output times `size`."""
    inputs = cases.draw(Case(LINEAR.name, SHAPE, 3), LINEAR).inputs
    return gate.truth_of(LINEAR, inputs | {"dout": inputs["dout"] * np.float32(size)}, seed=3)


def judged(truth, got, *concedes):
    return [f.check for f in gate.judge(truth, "dweight", got.astype(np.float32),
                                        concedes=concedes)[0]]


def leaning(truth, ulps: float) -> np.ndarray:
    """The truth rounded to float32, each number drawn so much nearer to zero."""
    value = truth.value["dweight"]
    ulp = np.ldexp(2.0**-24, np.frexp(value)[1])
    step = np.random.default_rng(0).random(value.shape) < ulps
    return (value.astype(np.float32) - np.sign(value) * step * ulp).astype(np.float32)


@pytest.mark.parametrize("ulps,concedes,refused", [
    (0.0, (), False), (0.4, (), True), (0.4, ("chopped",), False), (0.4, ("denormals",), True),
    (0.4, ("nan",), True), (0.8, ("chopped",), True), (1.0, ("chopped",), True)])
def test_sums_that_lean_toward_zero(ulps, concedes, refused):
    truth = truth_of()
    assert ("bias" in judged(truth, leaning(truth, ulps), *concedes)) == refused


def cut_off(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b in float32, 16 terms at a step and every step cut off: as tensor cores sum."""
    total = np.zeros((len(a), b.shape[1]))
    for k in range(0, a.shape[1], 16):
        mantissa, power = np.frexp(total + a[:, k:k + 16] @ b[k:k + 16])
        total = np.ldexp(np.trunc(mantissa * 2**24) / 2**24, power)
    return total.astype(np.float32)


def test_long_sums_that_are_cut_off_drift():
    """8192 terms: refused, unless conceded; and conceded is no bfloat16 sum and no lost term."""
    contract_, narrow = contract.of("head_backward"), precision.of("bfloat16")
    case = Case("head_backward", (("N", 8192), ("Vp", 16), ("C", 16)), 18, "randn", "bfloat16")
    inputs = cases.draw(case, contract_).inputs
    truth = gate.truth_of(contract_, inputs, seed=18, precision=narrow)
    a, b = inputs["dlogits"].T.astype(np.float64), inputs["inp"].astype(np.float64)

    def checks(got, *concedes):
        stock = truth.value["dweight"].astype(np.float32)
        return {f.check for f in gate.judge(truth, "dweight", got, stock=stock,
                                            concedes=concedes)[0]}
    assert checks(cut_off(a, b)) == {"element", "stock", "bias"}
    assert not checks(cut_off(a, b), "chopped")
    assert "element" in checks(cut_off(a[:, 1:], b[1:]), "chopped")
    assert checks(rounded(cut_off(a, b), "bfloat16"), "chopped") >= {"element", "stock"}


def test_denormals_that_are_lost():
    truth = truth_of(1e-40)
    value = truth.value["dweight"]
    assert 0 < np.abs(value).max() < gate.SMALLEST, "the case must be about denormals"
    lost = np.zeros_like(value)
    assert judged(truth, lost), "without the concession they are an error"
    assert not judged(truth, lost, "denormals")
    assert judged(truth, np.full_like(value, 1e-30), "denormals")


def test_denormals_excuse_no_number_of_ordinary_size():
    truth = truth_of()
    wrong = truth.value["dweight"].astype(np.float32)
    wrong[3, 5] *= 1.01
    assert "element" in judged(truth, wrong, "denormals", "chopped", "nan")
    assert not judged(truth, truth.value["dweight"], "denormals", "chopped", "nan")


def test_a_concession_is_one_of_the_known(tmp_path):
    path = tmp_path / "forward_01_x.cu"
    path.write_text("// Idea.\n//@ concedes everything\nvoid layernorm_forward(float* out) {\n}\n")
    with pytest.raises(SourceError, match=f"expected one of {', '.join(CONCESSIONS)}"):
        source.read(path, "layernorm", "forward")
