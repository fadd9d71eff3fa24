"""The prover on CUDA files: precisions, what some devices check alone, and machine code."""

from collections import Counter

import numpy as np
import pytest

from checks import artifact, command, prove, report, run_shape, select, tiers
from checks.launch import NARROW, Stage, words
from ported import contract as contracts
from ported import device as devices
from ported import evidence, source
from ported import precision as precisions

GELU = contracts.of("gelu_forward")
RIGHT = '''// Planted.
//
//@ block  256
//@ grid   ceil_div(N * C, block)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * C) return;
    float x = to_float(inp[i]);
    float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    out[i] = from_float<F>(0.5f * x * (1.0f + tanhf(inner)));
}
'''
PRECISIONS = ("float32", "bfloat16")


def opened(precision: str):
    try:
        return devices.open("emulated", precision=precision)
    except devices.DeviceError as error:
        pytest.skip(f"no emulated device here: {error}")


def planted(tmp_path, old: str = "", new: str = "") -> source.Version:
    assert old in RIGHT
    path = tmp_path / "forward_01_planted.cu"
    path.write_text(RIGHT.replace(old, new) if old else RIGHT)
    return source.read(path, "gelu", "forward")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_right_version_is_proved_by_every_check(precision, tmp_path):
    proof = prove.prove(planted(tmp_path), GELU, opened(precision)).as_dict()
    assert proof["verdict"] == "proved", proof["faults"]
    assert proof["precision"] == precision
    assert list(proof["checks"]) == list(evidence.current_checks("cu"))
    idle = {name for name, check in proof["checks"].items() if not check["examples"]}
    assert idle <= {"exact", "inplace", "artifact"}
    assert "artifact" not in idle or any("artifact" in reason for reason in proof["not_run"])


@pytest.mark.parametrize("what,old,new,check,precision", [
    ("truncates", "from_float<F>(0.5f * x * (1.0f + tanhf(inner)))",
     "__ushort_as_bfloat16((unsigned short)(__float_as_uint(0.5f * x * (1.0f + tanhf(inner)))"
     " >> 16))", "gate", "bfloat16"),
    ("reads past the end", "if (i >= (size_t)N * C) return;\n    float x = to_float(inp[i]);",
     "float x = *(const volatile float*)(inp + i);\n    if (i >= (size_t)N * C) return;",
     "sanitizers", "float32"),
    ("writes past the end", "if (i >= (size_t)N * C) return;",
     "if (i > (size_t)N * C) return;\n    if (i == (size_t)N * C) { out[i] = inp[0]; return; }",
     "guards", "bfloat16"),
    ("asks for too many threads", "block  256", "block  2048", "launch", "float32"),
])
def test_a_wrong_version_is_refused(what, old, new, check, precision, tmp_path):
    proof = prove.prove(planted(tmp_path, old, new), GELU, opened(precision), target=check)
    assert proof.ledger.refused[check], (what, proof.ledger.faults)


def test_a_refusal_is_replayed_in_its_precision(tmp_path):
    version = planted(tmp_path, "0.5f * x", "0.52f * x")
    proof = prove.prove(version, GELU, opened("bfloat16"), target="gate").as_dict()
    shown = report.faults("gelu_forward_01", "emulated", proof)
    assert "pytest checks --kernel gelu_forward_01 --device emulated --dtype bfloat16" in shown


def test_a_version_of_another_precision_is_not_applicable(tmp_path):
    version = planted(tmp_path, "all=float32 | F=bfloat16", "all=float32")
    proof = prove.prove(version, GELU, opened("bfloat16")).as_dict()
    assert proof["verdict"] == "not applicable" and "do not allow bfloat16" in proof["reason"]
    assert "not proved here" in report.line("gelu_forward_01", proof)
    assert select.precisions_of(version, GELU, "cu") == ["float32"]


def test_a_vendor_version_alone_is_nothing_proved(capsys):
    vendors = [name for name, path in select.paths("cu").items() if path.suffix == ".py"]
    assert vendors
    opened("float32")
    assert command.main(["--kernel", vendors[0], "--device", "emulated"]) == 1
    assert "which runs on cuda only" in capsys.readouterr().out


def test_tf32_is_proved_where_products_are_rounded(tmp_path):
    class Device:
        evidence, precision = "sm_90/tf32", precisions.of("tf32")

    plain = planted(tmp_path)
    rounding = planted(tmp_path, "//@ block", "//@ products tf32\n//@ block")
    assert evidence.home(plain, Device) == "sm_90/float32"
    assert evidence.home(rounding, Device) == "sm_90/tf32"
    assert select.precisions_of(rounding, GELU, "cu") == ["tf32"]


@pytest.mark.parametrize("fill", NARROW)
def test_a_fill_is_what_it_says_in_both_widths(fill):
    bits = words(fill, 7, narrow=True)
    singles = bits.view(np.float32)
    halves = precisions.decode(bits.view(np.uint16), "bfloat16")
    for numbers in (singles, halves):
        assert {"nan": np.isnan(numbers), "huge": (numbers > 3.38e38) & np.isfinite(numbers),
                "zero": numbers == 0}[fill].all()


def test_shifts_are_elements_and_guards_bytes(tmp_path):
    stage = Stage(opened("bfloat16"), planted(tmp_path), GELU, {"N": 3, "C": 5}, {"block": 256})
    home, _ = stage.places({})
    moved, _ = stage.places({"inp": 3, "out": 1})
    assert moved["inp"] - home["inp"] == 6 and moved["out"] - home["out"] == 2
    assert home["out"] % 256 == home["inp"] % 256 == 0


def test_a_run_s_shapes_are_judged_in_its_precision():
    request = {"version": "gelu_forward_01", "parameters": {"block": 128},
               "axes": {"N": 9, "C": 40}, "consts": {}}
    result = run_shape.answer(request, opened("bfloat16"))
    assert result["verdict"] == "proved" and result["examples"]["launch"], result


def test_large_shapes_cost_more_than_is_emulated(tmp_path):
    version, limit = planted(tmp_path), tiers.EMULATED["fast"].cost
    values = {"block": 256, "multiprocessors": 4}
    assert tiers.cost(version, {"N": 5, "C": 13}, values) < limit / 100
    assert tiers.cost(version, {"N": 512, "C": 768}, values) > limit


ATOMICS = {"REDG.E.ADD.F32.FTZ.RN.STRONG.GPU": 1}


@pytest.mark.parametrize("claims,found,precision,products,says", [
    ("deterministic", ATOMICS, "float32", "", "deterministic, which"),
    ("deterministic", {"ATOMS.CAST.SPIN": 2}, "float32", "", "deterministic, which"),
    ("deterministic", {"ATOMG.E.INC.STRONG.GPU": 1}, "float32", "", ""),
    ("no_atomics", {"ATOMG.E.INC.STRONG.GPU": 1}, "float32", "", "no_atomics"),
    ("batch_invariant", ATOMICS, "float32", "", ""),
    ("no_atomics", {"REDUX.SUM": 1, "FADD": 4}, "float32", "", ""),
    ("deterministic", {"HMMA.1688.F32.TF32": 8}, "float32", "", "float32 does not allow"),
    ("deterministic", {"HMMA.1688.F32.TF32": 8}, "tf32", "tf32", ""),
    ("deterministic", {"HMMA.1688.F32.TF32": 8}, "tf32", "", "tf32 does not allow"),
    ("deterministic", {"HMMA.16816.F32.BF16": 8}, "tf32", "tf32", "tf32 does not allow"),
    ("deterministic", {"HMMA.16816.F32.BF16": 8}, "bfloat16", "", ""),
    ("deterministic", {"HMMA.16816.F16": 8}, "bfloat16", "", "bfloat16 does not allow"),
    ("deterministic", {"HFMA2.BF16_V2": 1}, "bfloat16", "", "arithmetic in bfloat16"),
    ("deterministic", {"HFMA2.MMA": 1}, "bfloat16", "", ""),
    ("deterministic", {"MUFU.TANH": 1}, "float32", "", "good to 2^-11"),
    ("deterministic", {"MUFU.TANH": 1}, "tf32", "", "good to 2^-11"),
    ("deterministic", {"MUFU.TANH": 1}, "bfloat16", "", ""),
    ("deterministic", {"MUFU.EX2": 1, "MUFU.RCP": 1}, "float32", "", ""),
    ("deterministic", {"STL.64": 3, "LDL": 3}, "float32", "", "found 6 loads and stores"),
    ("deterministic\n//@ spills 6", {"STL.64": 3, "LDL": 3}, "float32", "", ""),
])
def test_machine_code_against_claims(claims, found, precision, products, says, tmp_path):
    more = f"\n//@ products {products}" if products else ""
    version = planted(tmp_path, "deterministic batch_invariant no_atomics", claims + more)
    faults = artifact.faults(version, precisions.of(precision), Counter(found))
    assert bool(faults) == bool(says) and says in "; ".join(faults), faults


def test_evidence_of_c_stands_on_checks_of_c():
    assert evidence.current_checks() == prove.CHECKS
    assert evidence.current_checks("cu") == prove.CHECKS | prove.CUDA_CHECKS
