"""The checks of the deep tier alone: each refuses what it is for, and accepts what is right."""

import random

import pytest

from checks import more_checks, mutants, prove, tiers
from ported import contract as contracts
from ported import device, source

REFUSED = {"adamw/update_correction_left_after_1000": "scalars",
           "layernorm/forward_eps_has_a_floor": "scalars",
           "gelu/backward_dead_units_skipped": "extremes",
           "layernorm/backward_tail_unmasked": "largest"}


@pytest.fixture(scope="module")
def cpu():
    return device.open("cpu", threads=2)


def proof_of(version: source.Version, machine) -> prove.Proof:
    return prove.prove(version, contracts.of(version.contract_name), machine, "more", shrink=False)


@pytest.mark.parametrize("label", REFUSED)
def test_what_the_fast_tier_accepts_is_refused(label, cpu):
    """Mutants that no other check has seen."""
    mutant = next(m for m in mutants.read_all() if m.label == label)
    with mutants.throw_away() as tree, mutants.applied(mutant, tree) as path:
        found = proof_of(source.read(path, mutant.operation, mutant.direction), cpu)
    assert set(found.ledger.refused) == {REFUSED[label]}, found.ledger.faults


@pytest.mark.parametrize("number", range(4))
def test_right_versions_are_accepted(number, cpu, seed=0):
    """Some of those that evidence says are right."""
    versions = sorted(source.read_all(language="c").values(), key=lambda v: v.name)
    found = proof_of(random.Random(seed).sample(versions, 4)[number], cpu)
    assert found.verdict == "proved", found.ledger.faults
    ran = {name for name in more_checks.numbers(cpu) if found.ledger.examples[name]}
    told = " ".join(found.ledger.not_run)
    assert all(name in ran or f"{name}: " in told for name in more_checks.numbers(cpu)), told


def test_each_is_named_in_a_proof_of_its_tiers_alone(cpu):
    more = set(more_checks.numbers(cpu))
    assert more and more <= set(prove.checks_of(cpu, "deep"))
    assert not more & set(prove.checks_of(cpu))
    assert set(more_checks.BY_NAME) == {name for some in more_checks.CHECKS.values()
                                        for name in some}
    assert tiers.of("more", cpu).more and not tiers.of("more", cpu).spine
