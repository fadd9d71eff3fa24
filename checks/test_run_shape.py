"""Proofs at a run's shapes: large cases are judged in part and refused all the same; several
provers share the work, say how far they are, and a crash is told with its kernel."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from checks import known, refusals, run_shape, run_shape_large, select
from checks.cases import Case
from checks.run_shape_large import finite
from ported import device as devices
from ported import run_shape as asking
from ported import source
from ported.contract import of as contract_of
from ported.evidence import Choice, EvidenceError

CPU = devices.open("cpu", threads=2)
LARGE = {"N": 1500, "C": 400}


def answer(name: str, axes: dict, monkeypatch=None, reject: str = "") -> dict:
    if reject:
        wrong = next(r for r in refusals.read_all() if r.name == reject)
        version = source.read(wrong.path, wrong.operation, wrong.direction)
        monkeypatch.setattr(select, "read", lambda *given: (
            version, contract_of(version.contract_name)))
    request = {"version": name, "parameters": {}, "axes": axes, "consts": {}, "device": "cpu"}
    return run_shape.answer(request, CPU)


@pytest.mark.parametrize("name, axes", [
    ("layernorm_backward_01", LARGE), ("gelu_forward_02", LARGE),
    ("linear_backward_04", {"N": 1024, "C": 384, "O": 384}),
    ("attention_backward_03", {"B": 3, "T": 160, "H": 8, "D": 64}),
    ("adamw_update_03", {"S": 2100, "E": 256})])
def test_large_cases_are_accepted(name, axes):
    contract = contract_of(name.rpartition("_")[0])
    assert run_shape_large.is_large(contract, Case(contract.name, tuple(axes.items()), 0, "unit"))
    found = answer(name, axes)
    assert found["verdict"] == "proved", found
    expected = {"frozen", "guards", "gate", "poison"}
    summed = any(t.access == "sum" for t in contract.outputs)
    assert set(found["examples"]) == expected | ({"accumulate"} if summed else set())


@pytest.mark.parametrize("reject, said", [
    ("layernorm/backward_assigns_dinp", "accumulate: "),
    ("layernorm/backward_assigns_dweight", "accumulate: "),
    ("layernorm/backward_scratch_uncleared", ""),
    ("layernorm/backward_seven_percent", "gate: element: ")])
def test_large_cases_are_refused(reject, said, monkeypatch):
    found = answer("layernorm_backward_01", LARGE, monkeypatch, reject)
    assert found["verdict"] == "refused" and found["message"].startswith(said), found


def test_what_a_backward_is_given_is_what_its_forward_saves():
    case = Case("attention_backward", (("B", 3), ("D", 64), ("H", 8), ("T", 160)), 0, "unit",
                "bfloat16")
    contract = contract_of(case.contract)
    mine, whole = run_shape_large._drawn(case, contract), known.of(case, contract).drawn
    assert mine.inputs.keys() == whole.inputs.keys()
    for name, value in whole.inputs.items():
        if name not in ("out", "lse"):
            assert np.array_equal(mine.inputs[name], value), name
        else:  # float32 beside float64: an ulp of the dtype
            ulp = 2.0**-8 if name == "out" else 2.0**-22
            np.testing.assert_allclose(mine.inputs[name], value, 2 * ulp, ulp)
    known.forget()


@pytest.mark.parametrize("dtype, words", [("float32", np.float32), ("bfloat16", np.uint16)])
def test_finite_looks_at_every_number(dtype, words):
    bits = np.zeros(run_shape_large.PIECE + 7, np.uint32 if words is np.float32 else np.uint16)
    largest = 0x7F7FFFFF if words is np.float32 else 0x7F7F
    bits[:] = largest
    assert finite(bits.view(words), dtype)
    for bad in (largest + 1, largest + 2):  # infinite, NaN
        bits[-1] = bad
        assert not finite(bits.view(words), dtype)
    assert finite(np.array([0x7F800001], np.int32), "int32")


@pytest.mark.parametrize("fill", ["nan", "huge", "random"])
def test_memory_between_and_in_buffers_is_filled(fill):
    image = np.zeros(3 * 4 * 99991 + 10, np.uint8)
    run_shape_large._fill(image, 6, image.size - 3, run_shape_large.words(fill, 99991))
    assert not image[:6].any() and not image[-3:].any()
    whole = image[8:-6].view(np.uint32)
    expected = np.resize(run_shape_large.words(fill, 99991).view(np.uint32), whole.size + 2)[2:]
    assert np.array_equal(whole, expected)


ANSWERS = """
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)
    if request["version"].startswith("gelu"):
        print("its last words", file=sys.stderr)
        os._exit(3)
    print(json.dumps({"verdict": "proved", "message": "", "examples": {}, "not_run": {},
                      "seconds": 1.0}), flush=True)
"""


@pytest.fixture
def provers(monkeypatch, tmp_path):
    """`ensure` with three provers that answer at once, and die of gelu."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(asking, "_processes", lambda device: 3)
    monkeypatch.setattr(asking, "EVERY", 0.0)
    plain = asking.subprocess.Popen
    monkeypatch.setattr(asking.subprocess, "Popen", lambda command, **how: plain(
        [sys.executable, "-c", ANSWERS], **how))
    device = SimpleNamespace(name="cuda", identity={}, threads=1,
                             precision=SimpleNamespace(name="bfloat16"))

    def run(*names):
        versions, said = source.read_all(), []
        contracts = {versions[n].contract_name: contract_of(versions[n].contract_name)
                     for n in names}
        steps = {f"{name} N={n}": (Choice(versions[name]), {"N": n}, {})
                 for name in names for n in (1, 2)}
        return asking.ensure(steps, contracts, device, said.append), said
    return run


def test_several_provers_share_the_work_and_tell(provers):
    (now, before), said = provers("layernorm_forward_01", "linear_forward_01")
    assert (now, before) == (4, 0)
    assert said[0] == "proving 4 kernels at this run's shapes (0 proofs at hand)"
    assert len(said) == 5 and "4 of 4 after" in said[-1] and ": proved, 1.0 s" in said[-1]
    assert provers("layernorm_forward_01")[0] == (0, 2)


def test_a_prover_that_dies_is_told_with_its_kernel(provers):
    with pytest.raises(EvidenceError) as error:
        provers("layernorm_forward_01", "gelu_forward_01")
    for part in ("exit code 3 at gelu_forward_01, gelu_forward_01 N=", "its last words",
                 "make verify KERNEL=gelu_forward_01"):
        assert part in str(error.value)
