"""The prover itself: its cases can be replayed, its failures are minimal, its commands say no."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks import cases, laws, prove, refusals, report, run_shape, select, shapes
from checks.launch import GUARD, Stage, words
from ported import contract as contracts
from ported import device as devices
from ported import evidence, source
from ported.contract import ROOT

CONTRACTS = contracts.read_all()
CPU = devices.open("cpu", threads=2)


def version_of(tmp_path, text: str, operation: str = "layernorm") -> source.Version:
    path = tmp_path / "forward_01_planted.c"
    path.write_text(text)
    return source.read(path, operation, "forward")


def layernorm(old: str = "", new: str = "") -> str:
    text = select.read("layernorm_forward_01")[0].text
    assert old in text
    return text.replace(old, new) if old else text


def proof_of(version, **how) -> prove.Proof:
    return prove.prove(version, CONTRACTS[version.contract_name], CPU, **how)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", CONTRACTS)
def test_a_printed_case_is_the_same_case(name, data):
    version, contract = select.read(f"{name}_01")
    strategy = shapes.Shapes(version, contract, CPU).strategy(shapes.families_of(name))
    case = data.draw(strategy)
    again = cases.parse(str(case), contract)
    assert again == case
    first, second = cases.draw(case, contract).inputs, cases.draw(again, contract).inputs
    for key, value in first.items():
        assert np.array_equal(value, second[key], equal_nan=True), key
    for tensor in contract.inputs:
        assert first[tensor.name].shape == tensor.shape(case.sizes)
        assert first[tensor.name].dtype == (np.int32 if tensor.role == "I32" else np.float32)


@pytest.mark.parametrize("text", ["N=3", "N=3,C=0", "N=3,C=4:family=luck", "N=3,C=4,K=2", "all",
                                  "N=x,C=4", "N=3,C=4:seed=-1"])
def test_a_case_that_is_none(text):
    with pytest.raises(ValueError, match="expected 'N=3,C=3:seed=0:family=randn'"):
        cases.parse(text, CONTRACTS["layernorm_forward"])


@pytest.mark.parametrize("need", ["C % 16 == 0", "C == 768", "N % 4 == 0 and C <= 64", "N < C"])
def test_shapes_follow_what_a_version_needs(need, tmp_path):
    version = version_of(tmp_path, layernorm("//@ dtype", f"//@ needs {need}\n//@ dtype"))
    proof = proof_of(version)
    assert proof.verdict == "proved", proof.ledger.faults
    assert proof.ledger.examples["shapes"] > 9


def test_needs_that_nothing_satisfies(tmp_path):
    version = version_of(tmp_path, layernorm("//@ dtype", "//@ needs C < 0\n//@ dtype"))
    fault = proof_of(version).ledger.faults[0]
    assert fault.check == "shapes" and "no shape tried satisfies" in fault.message


def test_every_configuration_is_proved(tmp_path):
    """Right for the first block only."""
    text = layernorm("sum += x[c];", "sum += ROWS == 1 ? x[c] : x[0];")
    version = version_of(tmp_path, text.replace("//@ dtype", "//@ tune ROWS 1 2\n//@ dtype"))
    faults = proof_of(version).ledger.faults
    assert {fault.parameters["ROWS"] for fault in faults} == {2}, faults


def test_a_failure_is_brought_down_to_its_simplest_case(tmp_path):
    text = layernorm("float m = sum / C;", "float m = sum / (C > 12 && N > 3 ? C + 1 : C);")
    proof = proof_of(version_of(tmp_path, text))
    fault = next(fault for fault in proof.ledger.faults if fault.check == "gate")
    assert fault.case.startswith("layernorm_forward:N=4,C=13:"), fault
    shown = report.faults("layernorm_forward_09", "cpu", proof.as_dict())
    assert "pytest checks --kernel layernorm_forward_09 --device cpu --case N=4,C=13" in shown
    again = proof_of(version_of(tmp_path, text), case=fault.case.partition(":")[2])
    assert again.ledger.refused["gate"], "the replay fails as well"


def test_the_same_seed_gives_the_same_proof():
    version, _ = select.read("softmax_forward_01")
    first, second = (proof_of(version, seed=4).as_dict() for _ in range(2))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_every_check_has_run_on_a_backward():
    proof = proof_of(select.read("layernorm_backward_01")[0]).as_dict()
    assert list(proof["checks"]) == list(evidence.current_checks()) == list(prove.CHECKS)
    idle = {name for name, check in proof["checks"].items() if not check["examples"]}
    assert idle == {"inplace"} and "inplace: not claimed" in proof["not_run"]


def test_an_output_that_may_lie_on_an_input(tmp_path):
    """Layernorm reads a row before it writes it, except where `out` is cleared first."""
    text = layernorm("//@ dtype", "//@ inplace out=inp\n//@ dtype")
    right = proof_of(version_of(tmp_path, text))
    assert right.verdict == "proved" and right.ledger.examples["inplace"]
    wrong = proof_of(version_of(tmp_path, text.replace("float sum = 0", "y[0] = 0; float sum = 0")))
    assert set(wrong.ledger.refused) == {"inplace"}


@pytest.mark.parametrize("offset", [-GUARD, -1, 10, 9 + GUARD])
def test_guards_see_a_write_beside_any_buffer(offset, tmp_path):
    version = version_of(tmp_path, layernorm("rstd[n] = r;", f"rstd[n] = r; mean[{offset}] = 5;"))
    contract = CONTRACTS["layernorm_forward"]
    drawn = cases.draw(cases.Case(contract.name, (("N", 10), ("C", 3))), contract)
    stage = Stage(CPU, version, contract, drawn.case.sizes, {})
    found = stage.run(drawn.inputs).faults
    assert "guards" in {check for check, _, _ in found}


def test_poison_is_poison():
    assert np.isnan(words("nan", 5).view(np.float32)).all()
    assert words("huge", 5).view(np.float32)[0] == np.float32(3.39e38)
    assert len(np.unique(words("random", 1000))) > 990


def run_shape_of(name: str, axes: dict) -> dict:
    request = {"version": name, "parameters": {}, "axes": axes, "consts": {}, "device": "cpu"}
    return run_shape.answer(request, CPU)


def test_run_shape_as_a_command():
    axes = {"layernorm_backward_01": {"N": 24, "C": 40}, "classifier_forward_01":
            {"N": 9, "V": 31, "Vp": 40}, "adamw_update_01": {"S": 3, "E": 256}}
    asked = "".join(json.dumps({"version": name, "parameters": {}, "axes": sizes, "consts": {},
                                "device": "cpu"}) + "\n" for name, sizes in axes.items())
    command = [sys.executable, "-m", "checks.run_shape", "2"]
    done = subprocess.run(command, cwd=ROOT, check=True, input=asked, text=True,
                          stdout=subprocess.PIPE)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["verdict"] for result in results] == ["proved"] * 3, results
    assert results[0]["examples"].keys() == {"frozen", "guards", "gate", "poison", "accumulate"}


def test_run_shape_refuses(monkeypatch):
    reject = next(r for r in refusals.read_all() if r.name == "layernorm/backward_assigns_dinp")
    version = source.read(reject.path, reject.operation, reject.direction)
    wrong = version, CONTRACTS[version.contract_name]
    monkeypatch.setattr(select, "read", lambda name, language: wrong)
    result = run_shape_of("layernorm_backward_01", {"N": 24, "C": 40})
    assert result["verdict"] == "refused" and result["message"].startswith("accumulate: ")


def pytest_of(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "checks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("arguments,expected", [
    (["--kernel", "layernrm_forward_01"], "near it: layernorm_forward_01"),
    (["--kernel", "layernorm_forward_99"], "near it: layernorm_forward_0"),
    (["--kernel", "nothing_*"], "no kernel matches 'nothing_*'"),
    (["--kernel", "gelu_forward_01", "--device", "abacus"], "known devices: cpu"),
    (["--case", "N=1,C=1"], "found no --kernel"),
    (["--kernel", "gelu_forward_01", "-k", "nothing"], "no kernel was proved"),
])
def test_nothing_checked_is_a_failure(arguments, expected):
    result = pytest_of(*arguments)
    assert result.returncode != 0
    assert expected in result.stdout + result.stderr


def test_one_kernel_and_nothing_else():
    result = pytest_of("--kernel", "residual_forward_01", "--device", "cpu")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout and "ran 1" in result.stdout
    assert "residual_forward_01: proved" in result.stdout


def test_a_law_of_scaling_excuses_what_is_faint_and_nothing_else():
    """Half a denormal has fewer bits; anywhere else the law holds bit for bit."""
    truth = SimpleNamespace(dtypes={"y": "bfloat16"})
    trial = SimpleNamespace(known=SimpleNamespace(truth=truth))
    before = np.float32([2.0**-127, 2.0**-127, 1.0, 2.0**-126])
    got = np.float32([2.0**-126 + 2.0**-133, 2.0**-125, 2 + 2.0**-6, 2.0**-125 + 2.0**-132])
    found = laws._but_for_faint(trial, "y", SimpleNamespace(outputs={"y": before}),
                                SimpleNamespace(outputs={"y": got}), 1)
    assert found[0] == 2 * before[0], "rounded where it was faint"
    assert np.array_equal(found[1:], got[1:]), "too far, or of ordinary size"
