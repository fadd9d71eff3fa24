"""What may train: proofs that hold, by version and by lock; everything else is refused by name."""

from dataclasses import replace

import pytest

from checks import command
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


DEEP = {"extremes": {"version": 1}}  # a check that only the deep tier runs


@pytest.mark.parametrize("changes, state", [
    ({}, "proved"), ({"verdict": "refused"}, "refused"), ({"verdict": "crashed"}, "refused"),
    ({"verdict": "timed-out"}, "refused"), ({"verdict": None}, "refused"),
    ({"meaning": "of another file"}, "void"), ({"checks": {"gate": {"version": 0}}}, "stale"),
    ({"verdict": "refused", "checks": {"gate": {"version": 0}}}, "refused"),
    ({"verdict": "refused", "checks": proof()["checks"] | DEEP}, "refused"),
    ({"checks": proof()["checks"] | DEEP}, "proved"),
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
    ({"verdict": "crashed"}, "gelu_forward_01 refused"), (None, "gelu_forward_01.* none"),
    ({"verdict": "refused", "checks": {"gate": {"version": 0}}}, "gelu_forward_01 refused"),
    ({"checks": {}}, "gelu_forward_01 stale"),
    ({"checks": {"gate": {"version": 0}}}, "gelu_forward_01 stale")])
def test_what_is_not_proved_does_not_train(empty, cpu, changes, said):
    if changes is not None:
        evidence.write(version(1), OF, cpu.evidence, proof(**changes))
    with pytest.raises(EvidenceError, match=said):
        evidence.choose(NEEDS, CONTRACTS, cpu)
    with pytest.raises(EvidenceError, match=said):
        evidence.choose(NEEDS, CONTRACTS, cpu, ["gelu_forward_01"])


@pytest.mark.parametrize("own, committed, state", [
    ("proved", "refused", "refused"), ("refused", "proved", "refused"),
    ("proved", "proved", "proved"), ("crashed", "proved", "refused"),
    ("proved", "crashed", "proved")])
def test_a_refusal_counts_in_whichever_folder_it_lies(empty, cpu, own, committed, state):
    evidence.write(version(1), OF, cpu.evidence, proof(verdict=own))
    evidence.write(version(1), OF, cpu.evidence, proof(verdict=committed), committed=True)
    assert evidence.status(version(1), OF, cpu.evidence) == state


OLD = {"checks": {"gate": {"version": 0}}}


@pytest.mark.parametrize("own, committed, state", [
    (OLD, {}, "proved"), ({}, OLD, "proved"), (OLD, OLD, "stale"),
    (OLD, {"verdict": "refused"}, "refused"), ({"verdict": "refused"} | OLD, {}, "refused")])
def test_a_stale_proof_does_not_hide_a_better_one(empty, cpu, own, committed, state):
    evidence.write(version(1), OF, cpu.evidence, proof(**own))
    evidence.write(version(1), OF, cpu.evidence, proof(**committed), committed=True)
    assert evidence.status(version(1), OF, cpu.evidence) == state


def test_what_refused_a_file_tries_it_again(empty, cpu):
    def asked(tier="fast", seed=0):
        return command._as_refused(version(1), OF, cpu, tier, seed)
    assert asked("fast", 3) == ("fast", 3)
    evidence.write(version(1), OF, cpu.evidence, proof(tier="fast", seed=7, verdict="refused"))
    assert asked("fast", 3) == ("fast", 7) and asked("deep", 3) == ("deep", 7)
    evidence.write(version(1), OF, cpu.evidence, proof(tier="deep", seed=8, verdict="refused"))
    assert asked("fast", 3) == ("deep", 8)
    evidence.write(version(1), OF, cpu.evidence, proof(tier="deep", seed=8))
    assert asked("fast", 3) == ("fast", 3)


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
    with pytest.raises(EvidenceError, match="gelu_forward_01: not proved now, but refused"):
        evidence.obey(lock, CONTRACTS, cpu)
    evidence.write(version(1), OF, cpu.evidence, proof(checks={"gate": {"version": 0}}))
    with pytest.raises(EvidenceError, match="gelu_forward_01: not proved now, but stale"):
        evidence.obey(lock, CONTRACTS, cpu)


def test_a_resumed_run_obeys_its_lock_unless_told():
    size, lock = gpt2.config("test"), {"identity": {"threads": "3"}, "kernels": {}}
    assert Start(Config(), size, state={"lock": lock}).lock is lock
    assert Start(Config(relock=True), size, state={"lock": lock}).lock is None
    assert Start(Config(), size).lock is None
