"""The checks of the deep tier alone: each refuses what it is for, and accepts what is right."""

import random

import pytest

from checks import more_checks, mutants, prove, refusals, tiers
from checks.shapes import Shapes
from checks.trial import Fault, Ledger, Subject
from ported import contract as contracts
from ported import device, source

REFUSED = {"adamw/update_correction_left_after_1000": "scalars",
           "layernorm/forward_eps_has_a_floor": "scalars",
           "gelu/backward_dead_units_skipped": "extremes",
           "layernorm/backward_tail_unmasked": "largest",
           "adamw/update_small_moments_flushed": "smallest",
           "adamw/update_divides_by_beta1": "scalars",
           "layernorm/forward_last_row_of_whole_tiles": "round",
           "global_norm/update_even_teams_lose_a_part": "round",
           "cross_entropy/forward_no_maximum_in_long_rows": "round",
           "attention/forward_last_key_of_whole_tiles": "round",
           "linear/forward_weights_kept_in_scratch": "leftovers",
           "gelu/forward_done_where_three_places_are": "leftovers"}


@pytest.fixture(scope="module")
def cpu():
    return device.open("cpu", threads=2)


def alone(version: source.Version, machine, *names: str) -> Ledger:
    """What these checks alone say of a version."""
    contract, ledger = contracts.of(version.contract_name), Ledger()
    subject = Subject(version, contract, machine, version.configurations()[0], ledger,
                      tier=tiers.of("deep", machine))
    for name in names:
        more_checks.BY_NAME[name](subject, Shapes(version, contract, machine), 0)
    return ledger


@pytest.mark.parametrize("label", REFUSED)
def test_what_the_fast_tier_accepts_is_refused(label, cpu):
    """Mutants that no other check has seen."""
    mutant = next(m for m in mutants.read_all() if m.label == label)
    with mutants.throw_away() as tree, mutants.applied(mutant, tree) as path:
        found = alone(source.read(path, mutant.operation, mutant.direction), cpu, REFUSED[label])
    assert set(found.refused) == {REFUSED[label]}, found.faults


@pytest.mark.parametrize("number", range(5))
def test_right_versions_are_accepted(number, cpu):
    """Some of those that evidence says are right."""
    versions = sorted(source.read_all(language="c").values(), key=lambda v: v.name)
    found = alone(random.Random(0).sample(versions, 8)[number], cpu, *set(REFUSED.values()))
    assert not found.faults
    told = " ".join(found.not_run)
    assert all(found.examples[name] or f"{name}: " in told for name in REFUSED.values()), told


def test_each_is_named_in_a_proof_of_its_tiers_alone(cpu):
    more = set(more_checks.numbers(cpu))
    assert more and more <= set(prove.checks_of(cpu, "deep"))
    assert not more & set(prove.checks_of(cpu))
    assert set(more_checks.BY_NAME) == {name for some in more_checks.CHECKS.values()
                                        for name in some}
    assert tiers.of("more", cpu).more and not tiers.of("more", cpu).spine


def test_costly_checks_are_spared_where_others_refuse():
    """The gate's kinds of cases are one kind of checks; what is not to be spared never is."""
    ledger = Ledger(spare={"size": 0, "sanitizers": 1, "artifact": -1})
    assert ledger.spared("artifact") and not ledger.spared("size")
    for refused in ("gate", "shapes"):
        ledger.refuse(Fault(refused, "out", "wrong", 2.0, ""))
        assert ledger.spared("size") and not ledger.spared("sanitizers")
    ledger.refuse(Fault("frozen", "inp", "changed", 2.0, ""))
    assert ledger.spared("sanitizers") and not ledger.spared("late")
    assert ledger.not_run == {"artifact: spared": 1, "size: spared": 2, "sanitizers: spared": 1}


@pytest.mark.parametrize("spare", [{}, {"sanitizers": 1}])
def test_sanitizers_are_spared_in_a_proof(spare):
    """Of a kernel that is not only raced, but gives wrong numbers in another order of threads."""
    reject = next(r for r in refusals.read_all() if r.name == "linear/forward_tile_overwritten.cu")
    version = source.read(reject.path, reject.operation, reject.direction)
    found = prove.prove(version, contracts.of(version.contract_name), device.open("emulated"),
                        shrink=False, spare=spare).ledger
    assert {"gate", "schedule"} <= set(found.refused)
    assert ("sanitizers" in found.refused) != bool(spare)
    assert bool(found.not_run["sanitizers: spared"]) == bool(spare)
