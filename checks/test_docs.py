"""README's tables from evidence made up here: what is shown, and what is said where it lacks."""

import pytest

from checks import docs, ladder, select
from checks.prove import CHECKS, CUDA_CHECKS
from ported import evidence

AXES = {"N": 65536, "C": 768}
CEILINGS = {"bandwidth": 4e12, "arithmetic": 7e14}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    return tmp_path


def prove(name: str, folder: str, worst: float = 0.5, **changes) -> None:
    checks = {check: {"version": version, "examples": 1, "worst": worst}
              for check, version in {**CHECKS, **CUDA_CHECKS}.items()}
    evidence.write(*select.read(name, "cu"), folder,
                   {"verdict": "proved", "checks": checks, **changes}, committed=True)


def timed(name: str, folder: str, seconds: float, **changes) -> None:
    timing = {"version": name, "device": "GPU X", "threads": 1, "axes": AXES, "parameters": {},
              "seconds": seconds, "peer": "PyTorch 2", "eager_seconds": 4 * seconds,
              "compiled_seconds": None, "share": 0.5, "roof": "memory", "bytes": 4e8,
              "operations": None, "ceilings": CEILINGS, "date": "2026-01-02", "label": "gpt2"}
    evidence.write_timings(*select.read(name, "cu"), folder, [timing | changes], committed=True)


def cells(table: str, name: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| `{name}`"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def of(precision: str) -> str:
    parts = ladder.cuda_tables().split("**")
    return parts[parts.index(f"{precision}, sm_90") + 1]


def test_no_evidence_is_a_sentence(tree):
    assert ladder.cuda_tables().count("no evidence is in the tree") == 3
    assert "no measured step" in ladder.step_table().lower()


def test_a_proved_version_shows_what_it_has(tree):
    prove("layernorm_forward_03", "sm_90/bfloat16", 0.75)
    prove("layernorm_forward_03", "emulated/bfloat16", 0.25)
    timed("layernorm_forward_03", "sm_90/bfloat16", 2e-4)
    table = of("bfloat16")
    assert "1 of" in table and "GPU X, 2026-01-02, against PyTorch 2" in table
    assert "copy 4000 GB/s, product 700 TFLOP/s" in table
    assert cells(table, "layernorm_forward_03")[2:] == [
        "proved", "proved", "0.75", "200.0 us", "50% of copy, 2000 GB/s", "800.0 us, 4.00x", ""]


def test_every_version_has_a_row_and_what_lacks_is_said(tree):
    prove("layernorm_forward_03", "sm_90/float32")
    table = of("float32")
    names = [name for name in select.paths("cu")
             if "float32" in select.precisions_of(*select.read(name, "cu"), "cu")]
    assert all(cells(table, name) for name in names)
    assert cells(table, "layernorm_forward_02")[2:6] == ["none", "none", "", "not timed"]
    assert cells(table, "linear_forward_05")[3] == "vendor's"
    assert "no times are in the tree" in table and "no evidence is in" in of("bfloat16")


def test_a_changed_version_is_void_and_its_times_are_gone(tree, monkeypatch):
    prove("layernorm_forward_03", "sm_90/bfloat16")
    timed("layernorm_forward_03", "sm_90/bfloat16", 2e-4)
    monkeypatch.setattr(evidence, "meaning", lambda version, contract: "another")
    assert cells(of("bfloat16"), "layernorm_forward_03")[2:6] == ["void", "none", "", "not timed"]


def test_rungs_are_compared_at_one_shape(tree):
    for name, large in (("layernorm_forward_02", 9e-4), ("layernorm_forward_03", 2e-4)):
        timed(name, "sm_90/bfloat16", large)
    timed("layernorm_forward_03", "sm_90/bfloat16", 8e-4, axes={"N": 131072, "C": 768}, bytes=8e8)
    table = of("bfloat16")
    assert cells(table, "layernorm_forward_03")[5] == "200.0 us"
    assert cells(table, "layernorm_forward_02")[5] == "900.0 us"


def test_a_product_shows_its_rate(tree):
    timed("linear_forward_04", "sm_90/bfloat16", 1e-3, roof="FMA", operations=3.5e11)
    assert cells(of("bfloat16"), "linear_forward_04")[6] == "50% of product, 350.0 TFLOP/s"


def test_a_step_against_pytorch(tree):
    sides = {"ported": {"seconds": [0.1] * 3, "memory": {"planned": 8e9}, "first_step_after": 2.04},
             "torch": {"seconds": [0.2] * 3, "memory": {"allocated": 1e10}}}
    evidence.store(tree / "golden" / "steps" / "a.json", {
        "size": "gpt2", "B": 64, "T": 1024, "dtype": "bfloat16", "date": "2026-01-02",
        "sides": sides})
    assert [c.strip() for c in ladder.step_table().splitlines()[2].strip("|").split("|")] == [
        "gpt2", "64 x 1024", "bfloat16", "torch compiled", "655360", "2.000 (2.000 to 2.000)",
        "0.800", "2.0 s", "a GPU, 2026-01-02"]


def test_readme_without_its_marks(tree):
    with pytest.raises(SystemExit, match="found no lines '<!-- ladder"):
        docs.generated("# Trivium\n")
