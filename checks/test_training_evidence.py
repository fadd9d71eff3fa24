"""What may train: proofs that hold, by version and by lock; everything else is refused by name."""

from dataclasses import replace

import pytest

from ported import contract, device, evidence, source
from ported.evidence import EvidenceError
from ported.training.config import Config
from ported.training.start import Start
from reference.programs import gpt2

OF = contract.of("gelu_forward")
AXES = {"N": 64, "C": 128}
KEY = evidence.shape_key("gelu_forward", AXES)
NEEDS = {KEY: ("gelu_forward", AXES, {})}
CONTRACTS = {"gelu_forward": OF}


@pytest.fixture(scope="module")
def cpu():
    return device.open("cpu", threads=1)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """No evidence anywhere."""
    places = tmp_path / "own", tmp_path / "committed"
    monkeypatch.setattr(evidence, "folders", lambda device_folder: places)
    return places


def version(number: int) -> source.Version:
    return source.read_all()[f"gelu_forward_{number:02d}"]


def proof(**changes):
    checks = {name: {"version": number} for name, number in evidence.current_checks().items()}
    return {"verdict": "proved", "checks": checks, **changes}


def record(number: int, **changes):
    return {"meaning": evidence.meaning(version(number), OF), **proof(), **changes}


@pytest.mark.parametrize("changes, state", [
    ({}, "proved"), ({"verdict": "refused"}, "refused"), ({"verdict": "crashed"}, "refused"),
    ({"verdict": "timed-out"}, "refused"), ({"verdict": None}, "refused"),
    ({"meaning": "of another file"}, "void"), ({"checks": {"gate": {"version": 0}}}, "stale"),
    ({"verdict": "refused", "checks": {"gate": {"version": 0}}}, "stale"),
    ({"meaning": "of another file", "verdict": "refused"}, "void")])
def test_what_a_record_says(changes, state):
    key = evidence.meaning(version(2), OF)
    assert evidence.judge(record(2, **changes), key) == state
    assert evidence.judge({"meaning": key}, key) == "none"


def test_the_highest_proved_version_trains(empty, cpu):
    for number in (1, 2):
        evidence.write(version(number), OF, cpu.evidence, proof())
    assert evidence.choose(NEEDS, CONTRACTS, cpu)[KEY].version == version(2)
    evidence.write(version(2), OF, cpu.evidence, proof(verdict="refused"))
    assert evidence.choose(NEEDS, CONTRACTS, cpu)[KEY].version == version(1)


@pytest.mark.parametrize("changes, said", [
    ({"verdict": "refused"}, "gelu_forward_01 refused"),
    ({"verdict": "crashed"}, "gelu_forward_01 refused"), (None, "gelu_forward_01.* none")])
def test_what_is_not_proved_does_not_train(empty, cpu, changes, said):
    if changes is not None:
        evidence.write(version(1), OF, cpu.evidence, proof(**changes))
    with pytest.raises(EvidenceError, match=said):
        evidence.choose(NEEDS, CONTRACTS, cpu)
    with pytest.raises(EvidenceError, match=said):
        evidence.choose(NEEDS, CONTRACTS, cpu, ["gelu_forward_01"])


def test_a_proof_of_a_file_that_has_changed_is_void(empty, cpu, monkeypatch):
    evidence.write(version(1), OF, cpu.evidence, proof())
    changed = {"gelu_forward_01": replace(version(1), text=version(1).text + "\nint more;")}
    if changed["gelu_forward_01"].digest == version(1).digest:
        pytest.fail("a changed text has the same digest")
    monkeypatch.setattr(source, "read_all", lambda **how: changed)
    with pytest.raises(EvidenceError, match="gelu_forward_01 void"):
        evidence.choose(NEEDS, CONTRACTS, cpu)


def test_only_versions_that_repeat_their_bits_are_chosen(empty, cpu, monkeypatch):
    evidence.write(version(1), OF, cpu.evidence, proof())
    blurred = replace(version(1), claims=frozenset())
    monkeypatch.setattr(source, "read_all", lambda **how: {"gelu_forward_01": blurred})
    with pytest.raises(EvidenceError, match="no proved kernel"):
        evidence.choose(NEEDS, CONTRACTS, cpu)
    assert evidence.choose(NEEDS, CONTRACTS, cpu, ["gelu_forward_01"])[KEY].version is blurred


def test_a_lock_is_kept_or_refused(empty, cpu):
    for number in (1, 2):
        evidence.write(version(number), OF, cpu.evidence, proof())
    chosen = {KEY: evidence.Choice(version(1))}
    lock = evidence.lock(chosen, CONTRACTS, cpu)
    assert evidence.obey(lock, CONTRACTS, cpu)[KEY].version == version(1)
    entry = lock["kernels"][KEY]
    for change, said in (({"meaning": "of another day"}, "changed since the checkpoint"),
                         ({"version": "gelu_forward_99"}, "no longer in the tree")):
        with pytest.raises(EvidenceError, match=said):
            evidence.obey({**lock, "kernels": {KEY: {**entry, **change}}}, CONTRACTS, cpu)
    evidence.write(version(1), OF, cpu.evidence, proof(verdict="refused"))
    with pytest.raises(EvidenceError, match="gelu_forward_01: not proved now"):
        evidence.obey(lock, CONTRACTS, cpu)


def test_a_resumed_run_obeys_its_lock_unless_told():
    size, lock = gpt2.config("test"), {"identity": {"threads": "3"}, "kernels": {}}
    assert Start(Config(), size, state={"lock": lock}).lock is lock
    assert Start(Config(relock=True), size, state={"lock": lock}).lock is None
    assert Start(Config(), size).lock is None
