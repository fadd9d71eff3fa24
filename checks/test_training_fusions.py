"""Fusions follow from proofs and timings; a lock keeps them."""

from types import SimpleNamespace

import pytest

from ported import contract, evidence, precision
from ported.training import fusions, start
from ported.training.config import Config
from ported.training.start import Start
from reference import rewrites
from reference.programs import gpt2

DEVICE = SimpleNamespace(language="c", values={"threads": 1}, processor="here", threads=1)
GELU = "gelu_linear_backward"
PARTS = ("linear_backward", "gelu_backward")


@pytest.fixture
def decide(monkeypatch):
    """decide(unproved, seconds by operation): the rewrites taken by one layer's program."""
    def run(unproved=(), times=None, use=(), **flags):
        times = {} if times is None else times
        monkeypatch.setattr(evidence.Shelf, "proved", lambda self, name, axes: (
            [] if name in unproved else [name]))
        monkeypatch.setattr(fusions, "seconds", lambda candidates, contract, axes, device: (
            times.get(candidates[0]) if candidates else None))
        begun = Start(Config(sequence_length=16, use=",".join(use), **flags), gpt2.config("test"))
        return start.program_for(begun, DEVICE)
    return run


def operations(program):
    return {step.op for steps in program.passes.values() for step in steps}


def test_all_are_taken_where_nothing_is_timed(decide):
    program, names = decide()
    assert names == rewrites.ALL and GELU in operations(program)


def test_an_operation_without_proof_is_not_fused(decide):
    program, names = decide([GELU])
    assert names == tuple(n for n in rewrites.ALL if n != GELU)
    assert GELU not in operations(program) and set(PARTS) <= operations(program)


def test_what_nothing_can_do_stays_for_the_choice_to_refuse(decide):
    assert decide([GELU, *PARTS])[1] == rewrites.ALL


def test_parts_without_proof_are_fused(decide):
    slow = {GELU: 9.0, "linear_backward": 1.0, "gelu_backward": 1.0}
    assert decide(["gelu_backward"], slow)[1] == rewrites.ALL


@pytest.mark.parametrize("fused, taken", [(2.9, True), (3.0, True), (3.1, False)])
def test_the_quicker_way_is_taken(decide, fused, taken):
    _, names = decide((), {GELU: fused, "linear_backward": 2.0, "gelu_backward": 1.0})
    assert (GELU in names) == taken


def test_one_timing_missing_decides_nothing(decide):
    assert decide((), {GELU: 9.0, "linear_backward": 2.0})[1] == rewrites.ALL


def test_a_version_taken_by_hand_is_fused(decide):
    slow = {GELU: 9.0, "linear_backward": 1.0, "gelu_backward": 1.0}
    assert GELU not in decide((), slow)[1]
    assert GELU in decide((), slow, use=[f"{GELU}_01"])[1]


@pytest.mark.parametrize("given, taken", [("none", ()), ("all", rewrites.ALL), (GELU, (GELU,))])
def test_a_flag_is_obeyed_without_asking(decide, given, taken):
    assert decide([GELU], fuse=given)[1] == taken


def test_a_lock_is_obeyed():
    lock = {"identity": {}, "kernels": {}, "fusions": [GELU]}
    begun = Start(Config(sequence_length=16), gpt2.config("test"), state={"lock": lock})
    program, names = start.program_for(begun, DEVICE)
    assert names == (GELU,) and GELU in operations(program)
    assert "linear_gelu_forward" not in operations(program)


def test_an_older_lock_shows_its_fusions_by_its_kernels():
    kernels = {"linear_gelu_forward C=1 N=1 O=1": {}, "linear_backward C=1 N=1 O=1": {}}
    assert fusions.of_lock({"kernels": kernels}) == ("linear_gelu_forward", rewrites.SHARED)


def test_real_evidence_gives_an_answer_twice():
    from ported import device

    cpu = device.open("cpu", threads=2)
    begun = Start(Config(), gpt2.config("tiny"))
    (_, first), (_, second) = start.program_for(begun, cpu), start.program_for(begun, cpu)
    assert first == second and rewrites.SHARED in first


def test_seconds_are_of_this_processor_and_in_proportion(monkeypatch):
    timing = {"device": "here", "axes": {"N": 10, "C": 4}, "threads": 1, "seconds": 2.0}
    monkeypatch.setattr(evidence, "_quickest", lambda *given: ("gelu_forward_01", timing))
    assert evidence.seconds([], None, {"N": 20, "C": 2}, DEVICE) == 2.0
    assert evidence.seconds([], None, {"N": 20, "C": 4}, DEVICE) == 4.0
    assert evidence.seconds([], None, {"N": 20, "C": 4}, SimpleNamespace(processor="there")) is None
    monkeypatch.setattr(evidence, "_quickest", lambda *given: None)
    assert evidence.seconds([], None, {"N": 20, "C": 4}, DEVICE) is None


@pytest.fixture
def shelf(monkeypatch):
    """shelf(states by number): layernorm_forward's versions in these states, on no real GPU."""
    def make(**states):
        device = SimpleNamespace(
            name="cuda", language="cu", evidence="sm_80/bfloat16", threads=1, processor="here",
            values={"multiprocessors": 1, "shared_limit": 1 << 16},
            precision=precision.of("bfloat16"))
        monkeypatch.setattr(evidence, "status", lambda version, contract, folder: (
            states.get(f"v{version.number}", "none")))
        return device
    return make


NEEDS = {f"layernorm_forward C=768 N={n}": ("layernorm_forward", {"N": n, "C": 768}, {})
         for n in (64, 128)} | {"gelu_forward C=64 N=64": ("gelu_forward", {"N": 64, "C": 64}, {})}


def refused(device) -> str:
    contracts = {name: contract.of(name) for name in ("layernorm_forward", "gelu_forward")}
    with pytest.raises(evidence.EvidenceError) as error:
        evidence.choose(NEEDS, contracts, device)
    return str(error.value)


def test_an_architecture_without_any_proof_is_told_so(shelf):
    said = refused(shelf())
    assert said.startswith("found no evidence of sm_80/bfloat16")
    assert "python -m checks.prove --all --device cuda --dtype bfloat16 --jobs 8" in said


def test_what_is_not_proved_is_told_once_an_operation(shelf):
    lines = refused(shelf(v1="void", v3="refused")).splitlines()
    assert lines[0] == "no proved kernel of sm_80/bfloat16 for" and len(lines) == 5
    assert lines[1].startswith("  layernorm_forward C=768 N=64 and 1 shapes more: "
                               "layernorm_forward_01 void, layernorm_forward_02 04 ")
    assert "layernorm_forward_03 refused" in lines[1] and lines[2].startswith("  gelu_forward C=64")
    assert 'ARGS="--device cuda --dtype bfloat16"' in lines[-1]
