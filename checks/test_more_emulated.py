"""Other numbers of multiprocessors, loops of many stages, draw against draw: what they refuse."""

from functools import cache

import numpy as np
import pytest

from checks import (
    draws,
    mutants,
    pipelines,
    processors,
    round_sizes,
    scalars,
    tiers,
    witness_plan,
)
from checks.at_random import rounded
from checks.shapes import Shapes
from checks.trial import Ledger, Subject
from ported import contract as contracts
from ported import device, source

CHECKS = {check.__name__: check for check in (
    processors.processors, pipelines.pipelines, draws.draws, round_sizes.round_sizes,
    scalars.scalars)}
REFUSED = {
    "layernorm_cuda/backward_columns_of_thirty_two_parts": "processors",
    "global_norm_cuda/update_one_launch_parts_of_a_block": "processors",
    "layernorm_cuda/backward_parts_of_an_h200_alone": "processors",
    "layernorm_cuda/backward_rows_beyond_256_in_packets": "round_sizes",
    "adamw_cuda/update_twenty_bits_of_t": "scalars",
    "adamw_stochastic_cuda/update_draws_come_again": "draws",
    "layernorm_cuda/backward_staged_last_copies_land_on_sums": "pipelines",
    "attention_cuda/forward_registers_landed_for_one_thread": "pipelines",
    "attention_cuda/forward_mma_buffer_of_slower_warps": "pipelines",
    "attention_cuda/forward_straight_edges_asks_before_the_barrier": "pipelines",
    "adamw_stochastic_cuda/update_packets_same_bits_every_step": "draws",
    "adamw_stochastic_cuda/update_packets_one_draw_for_eight": "draws",
    "adamw_stochastic_cuda/update_packets_seed_of_one_word": "draws",
    "adamw_stochastic_cuda/update_packets_steps_shift_the_bits": "draws",
    "adamw_stochastic_cuda/update_elements_seed_as_integer": "draws",
    "adamw_stochastic_cuda/update_packets_bits_of_the_thread": "draws"}
ACCEPTED = {
    "processors": ("layernorm_backward_06", "global_norm_update_03", "adamw_update_04"),
    "pipelines": ("attention_forward_05", "attention_backward_07", "linear_forward_07",
                  "layernorm_backward_07", "residual_layernorm_backward_04",
                  "gelu_linear_forward_03", "embedding_backward_04"),
    "draws": ("adamw_stochastic_update_01", "adamw_stochastic_update_02")}


@cache
def machine(precision: str):
    return device.open("emulated", precision=precision)


def examined(name: str, version: source.Version, precision: str = "bfloat16",
             tier: str = "deep", seed: int = 0) -> Ledger:
    """What one check says of the first configuration of a version."""
    here, contract = machine(precision), contracts.of(version.contract_name)
    subject = Subject(version, contract, here, version.configurations()[0], Ledger(),
                      tier=tiers.of(tier, here))
    subject.phase = name
    CHECKS[name](subject, Shapes(version, contract, here), seed)
    return subject.ledger


def version_of(name: str) -> source.Version:
    return source.read_all(language="cu")[name]


@pytest.mark.parametrize("label", REFUSED)
def test_mutants_are_refused(label):
    mutant = next(m for m in mutants.read_all() if m.label == label)
    with mutants.throw_away() as tree, mutants.applied(mutant, tree) as path:
        version = source.read(path, mutant.operation, mutant.direction)
        found = examined(REFUSED[label], version, mutant.dtype or "float32")
    name = REFUSED[label].removesuffix("_sizes")
    assert set(found.refused) == {name}, found.faults


def test_an_order_of_sums_that_depends_on_the_batch_breaks_its_promise():
    mutant = next(m for m in mutants.read_all()
                  if m.label == "linear_cuda/forward_order_depends_on_the_batch")
    with mutants.throw_away() as tree, mutants.applied(mutant, tree) as path:
        version = source.read(path, mutant.operation, mutant.direction)
        found = examined("round_sizes", version, "float32")
    assert set(found.refused) == {"claims"}, found.faults


@pytest.mark.parametrize("needs,axis,expected", [
    ("C % 5120 == 0", "C", 5120), ("C > 4096", "C", 4097), ("C >= 4096 and C % 8 == 0", "C", 4096)])
def test_sizes_are_found_that_few_satisfy(tmp_path, needs, axis, expected):
    """Far from the usual ones, so that an honest file is not refused for want of a shape."""
    original = version_of("layernorm_forward_01")
    path = tmp_path / "forward_01_far.cu"
    path.write_text(original.text.replace("//@ claims", f"//@ needs {needs}\n//@ claims", 1))
    version = source.read(path, "layernorm", "forward")
    contract = contracts.of("layernorm_forward")
    shapes = Shapes(version, contract, machine("float32"))
    assert min(shapes.pools[axis]) == expected
    subject = Subject(version, contract, machine("float32"), version.configurations()[0], Ledger(),
                      tier=tiers.of("deep", machine("float32")))
    assert all(sizes[axis] >= expected for sizes, _ in round_sizes.jobs(subject, shapes))
    assert round_sizes.jobs(subject, shapes)


@pytest.mark.parametrize("check,name", [(c, n) for c, names in ACCEPTED.items() for n in names])
def test_right_versions_are_accepted(check, name):
    found = examined(check, version_of(name))
    assert not found.faults and found.examples[check] > 5 and not found.not_run.keys() - {
        "processors: shapes that the version cannot have"}


@pytest.mark.parametrize("check,name,precision,said", [
    ("processors", "gelu_forward_02", "bfloat16", "does not ask how many there are"),
    ("draws", "adamw_update_02", "bfloat16", "nothing is rounded at random"),
    ("draws", "adamw_stochastic_update_02", "float32", "nothing is rounded at random")])
def test_what_is_not_looked_at_is_said(check, name, precision, said):
    found = examined(check, version_of(name), precision)
    assert not found.examples[check] and said in " ".join(found.not_run)


def test_what_a_tier_does_not_afford_is_said():
    for check, name, said in (("pipelines", "linear_backward_08", "cost more than"),
                              ("processors", "layernorm_backward_04", "cannot have or afford")):
        assert said in " ".join(examined(check, version_of(name), tier="fast").not_run)


def test_a_device_says_how_many_multiprocessors_it_was_given():
    assert machine("float32").values["multiprocessors"] == 4
    assert device.open("emulated", multiprocessors=37).values["multiprocessors"] == 37
    asking = {n for n, v in source.read_all(language="cu").items() if processors.asks(v)}
    assert {"layernorm_backward_04", "global_norm_update_04", "adamw_update_04"} <= asking
    assert not asking & {"gelu_forward_01", "linear_forward_07"}


def test_every_operation_has_a_shape_of_several_stages():
    """Some of it is affordable and small enough for each version, and packets stay whole."""
    here = machine("bfloat16")
    for version in source.read_all(language="cu").values():
        if version.language == "cu":
            shapes = Shapes(version, contracts.of(version.contract_name), here)
            found = [{axis: sizes.get(axis, 2) for axis in shapes.axes}
                     for sizes in pipelines.for_version(version)]
            assert any(map(shapes.allowed, found)), version.name
            assert all(size % 8 == 0 for sizes in found for axis, size in sizes.items()
                       if axis in ("C", "O", "D", "Vp", "E", "T"))


def test_witnesses_are_looked_for_at_the_same_places():
    version = version_of("layernorm_backward_06")
    plan = witness_plan.Plan(version, version, contracts.of(version.contract_name),
                             machine("bfloat16"))
    runs, hinted = plan.runs()
    assert {run.device.get("multiprocessors") for run in runs} >= set(processors.COUNTS)
    assert not hinted


def test_hints_say_where_a_witness_is_looked_for_first():
    """Behind the first launches, which many mutants share; in other orders where an order was
    refused; and never what the device cannot afford."""
    version = version_of("layernorm_backward_06")
    plan = witness_plan.Plan(version, version, contracts.of(version.contract_name),
                             machine("bfloat16"))
    plain, _ = plan.runs()
    near = {"case": "N=9,C=40:seed=7:family=outlier", "parameters": plan.choices[-1]}
    far = {"case": "N=60000,C=7000:seed=7:family=randn", "parameters": {}, "check": "gate"}
    runs, hinted = plan.runs([{**near, "check": "schedule"}, far])
    begin, end = witness_plan.BEGIN, witness_plan.BEGIN + hinted
    assert hinted == 7 and runs[:begin] == plain[:begin] and len(runs) == len(plain) + hinted
    assert all(str(run.case).endswith("N=9,C=40:seed=7:family=outlier")
               and run.parameters == plan.choices[-1] for run in runs[begin:end])
    assert any(run.device.get("flavour") == "races" for run in runs[begin:end])
    runs, hinted = plan.runs([{**near, "check": "pointers"}])
    assert {run.shift for run in runs[begin:begin + hinted]} == {0, 1, -1}


def drawn(seed: int, bits: int | None = None, size: int = 8192) -> draws.Draws:
    """Numbers of both signs rounded with the random bits of a seed."""
    exact = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return draws.of(exact, rounded(exact, seed + 1000 if bits is None else bits))


def worst(one: draws.Draws, other: draws.Draws, away: int = 0) -> float:
    return max(abs(sigmas) for _, sigmas in draws.correlations(one, other, away))


def test_draws_that_share_bits_are_told_from_those_that_do_not():
    one, other, same = drawn(1, 7), drawn(2, 8), drawn(3, 7)
    assert worst(one, other) < draws.SIGMAS < 30 < worst(one, same)
    for away in draws.NEIGHBOURS:
        assert worst(one, one, away) < draws.SIGMAS
    half = draws.Draws(*(np.concatenate([part[:4096], own[4096:]])
                         for part, own in zip(one, other, strict=True)))
    assert worst(half, same) > draws.SIGMAS  # half of them are enough


def test_sums_over_draws_are_spread_as_they_are_said_to_be():
    found = [sigmas for seed in range(150) for _, sigmas in draws.correlations(
        drawn(2 * seed, size=1024), drawn(2 * seed + 1, size=1024))]
    assert 0.85 < np.std(found) < 1.15 and np.abs(found).max() < 5


def test_draws_of_numbers_that_need_none_say_nothing():
    whole = rounded(np.ones(4096, np.float32), 1)
    nothing = draws.of(whole, whole)
    assert not list(draws.correlations(nothing, nothing))
    assert not list(draws.correlations(drawn(1), drawn(1), 8192))
    broken = draws.of(np.float32([np.inf, np.nan, 1.1]), np.float32([1, 1, np.nan]))
    assert not broken.variance.any() and not broken.beyond.any()
