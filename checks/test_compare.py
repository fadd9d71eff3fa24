"""compare.py: honest kernels pass, each wrong one fails and is named, two logs, bad input."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import compare
from checks import compare_band, compare_bisect, compare_runs, refusals, runs, stock_runs
from checks.training_run import learnable
from ported import source
from ported.training import start
from ported.training.config import parse
from reference.programs import gpt2

STEPS = 12  # one wrong kernel is right ten times
NAMED = {"all": 54, "none": 8}  # of 73 and 14; the others are right at these shapes
REJECTS = {reject.name: source.read(reject.path, reject.operation, reject.direction)
           for reject in refusals.read_all() if reject.device == "cpu"
           and "whole process" not in reject.reason}  # such a one would spoil its neighbours here


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    return learnable(tmp_path_factory.mktemp("compare"))


@pytest.fixture(autouse=True)
def unproved(monkeypatch):
    """The highest versions, whether or not they are proved: here it is compare that is on trial."""
    monkeypatch.setattr(start, "kernels_for",
                        lambda program, device, begun, say: (runs.kernels(program, device), {}))


def config_of(flags, *more):
    return parse([*flags, "--steps", str(STEPS), "--batch", "3", "--sequence-length", "13",
                  *more])[0]


@pytest.fixture(scope="module")
def honest(flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "kernels_for",
                      lambda program, device, begun, say: (runs.kernels(program, device), {}))
        return compare.compare(config_of(flags), bisect=True, say=lambda text: None)


def test_honest_kernels_pass(honest, flags, capsys):
    assert honest.run_holds and honest.steps_hold and honest.passed
    assert honest.first("fed") is None and honest.first("free") is None
    assert compare.report(honest, config_of(flags)) == 0
    said = capsys.readouterr().out
    assert "PASS: the run holds; the steps hold" in said
    picture = next(line for line in said.splitlines() if line.startswith("the picture: "))
    assert Path(picture.removeprefix("the picture: ")).read_bytes().startswith(b"\x89PNG")
    counted = {one.point.family for one in honest.judged}
    assert counted == set(compare_band.FAMILIES)
    assert {one.mode for one in honest.walk} == set(compare.MODES)


def test_bfloat16_keeps_to_the_band_of_stock_in_bfloat16(flags, monkeypatch):
    """On the emulated device; a kernel that keeps nothing of the masters' small steps leaves it."""
    monkeypatch.setattr(start, "kernels_for", lambda program, device, begun, say: (
        runs.kernels(program, device, "first"), {}))
    low = ["--device", "emulated", "--dtype", "bfloat16", "--batch", "2", "--sequence-length", "8"]
    found = compare.compare(config_of(flags, "--steps", "4", *low), say=lambda text: None)
    assert found.passed, [str(one) for one in found.audit if not one.accepted]
    assert {one.point.family for one in found.judged} == set(compare_band.FAMILIES)
    coarse = compare.compare(config_of(flags, "--steps", "8", *low, "--no-master"),
                             say=lambda text: None)
    assert coarse.steps_hold and not coarse.run_holds


def test_the_band_is_narrow(honest):
    """A loss 1e-5 off leaves it at every step: this is what llm.c's tolerances let through."""
    loss = [one for one in honest.judged if one.point.family == "loss"]
    assert all(one.bound < 1e-6 for one in loss)


def operations(config):
    program = start.program_of(config, gpt2.config("test"))
    return {step.op for steps in program.passes.values() for step in steps}


@pytest.mark.parametrize("fuse", ["all", "none"])
def test_wrong_kernels_fail_and_are_named(flags, fuse):
    """All in one comparison: each leaves the band, or its own step does when fed, by its name."""
    config, size = config_of(flags, "--fuse", fuse), gpt2.config("test")
    mine = operations(config) - (operations(config_of(flags)) if fuse == "none" else set())
    first = compare_runs.first_weights(config, size)
    candidates = {name: compare_runs.Ported(config, first, {version.contract_name: version}, print)
                  for name, version in REJECTS.items() if version.contract_name in mine}
    with np.errstate(all="ignore"):
        found, truth, loader = compare.follow(config, size, candidates, first, STEPS,
                                              lambda text: None)
    outside = {one.candidate for one in found.judged if not one.within}
    state = compare_runs.next_state(config, truth, loader)
    named, unseen = set(), []
    for name, run in candidates.items():
        operation = REJECTS[name].contract_name
        wrong = [one for one in compare_bisect.fed(run.executor, state, only=operation)
                 if not one.accepted]
        if not wrong and name in outside:
            wrong = [one for one in compare_bisect.free(run.executor, state) if not one.accepted]
        if wrong and wrong[0].operation == operation:
            named.add(name)
        elif name not in outside:
            unseen.append(name)
    print(f"{fuse}: {len(candidates)} wrong kernels, {len(outside)} outside the band, "
          f"{len(named)} named; honest at these shapes: {', '.join(unseen)}")
    assert not outside - named, outside - named
    assert len(named) >= NAMED[fuse], f"right at these shapes: {', '.join(unseen)}"


@pytest.mark.parametrize("name", ["gelu_linear/backward_slope_of_act",
                                  "layernorm/forward_all_nan", "adamw/update_eps_inside_root"])
def test_bisect_names_the_operation(flags, name):
    version = REJECTS[name]
    config = replace(config_of(flags), steps=2)
    found = compare.compare(config, {version.contract_name: version}, bisect=True,
                            say=lambda text: None)
    assert not found.passed and not found.run_holds
    assert found.first("fed").operation == version.contract_name
    assert found.first("free").operation == version.contract_name
    assert version.name in str(found.first("fed")) and "buffer " in str(found.first("fed"))
    assert compare.report(found, config, say=lambda text: None) == 1


def logged(folder, config, rows):
    folder.mkdir()
    sizes = {name: getattr(gpt2.config("test"), name) for name in ("L", "H", "C", "V", "Tmax")}
    records = [{"record": "run", "config": config.record(), "sizes": sizes}, *rows]
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(folder)


def test_two_logs(flags, tmp_path, capsys):
    config, size = config_of(flags), gpt2.config("test")
    first = compare_runs.first_weights(config, size)
    loader = compare_runs.loader(config, print, size.V)
    other = stock_runs.Variation("another order", renumber=7, parts=2)
    run = stock_runs.StockRun(other, config, size, first)
    rows = []
    for number in range(STEPS):
        rate = config.learning_rate * compare.SCHEDULES[config.schedule](
            number, STEPS, config.warmup, config.final_fraction)
        loss, norm = run.step(loader.next(config.batch), rate)
        rows.append({"step": number + 1, "loss": loss, "norm": norm, "lr": rate})
    near = [{**row, "loss": row["loss"] * (1 + 1e-7)} for row in rows]
    far = [{**row, "loss": row["loss"] * (1 + 1e-5)} for row in rows]
    paths = [logged(tmp_path / name, config, r) for name, r in
             (("a", rows), ("near", near), ("far", far))]
    out = ["--out", str(tmp_path / "out")]
    assert compare.main([paths[0], paths[1], *out]) == 0
    assert compare.main([paths[0], paths[0], *out]) == 0
    assert "equal, bit for bit" in capsys.readouterr().out
    assert compare.main([paths[0], paths[2], *out]) == 1
    assert "LEFT THE BAND first at step 1, B loss" in capsys.readouterr().out
    other = logged(tmp_path / "other", config_of(flags, "--learning-rate", "0.5"), rows)
    assert compare.main([paths[0], other]) == 2
    assert "different --learning-rate" in capsys.readouterr().err


@pytest.mark.parametrize("words,said", [
    (["--no-such-flag"], "no such flag"), (["one.jsonl"], "two logs alone"),
    (["a", "b"], "a run's log.jsonl"), (["--steps", "0"], "at least 1"),
    (["--skip-loss", "3"], "stock PyTorch has no such thing")])
def test_bad_input(words, said, capsys):
    assert compare.main(words) == 2
    assert said in capsys.readouterr().err
