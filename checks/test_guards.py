"""The guards of trainer, steps, bench and device: whom they concern, and what they see."""

import re
from types import SimpleNamespace

import pytest

from checks import guard_runs, guards, mutants, scenarios, scenarios_bench
from ported.contract import ROOT

AREAS = ("training", "steps", "bench", "device")


def every():
    return [mutant for area in AREAS for mutant in mutants.read(mutants.FOLDER / f"{area}.toml")]


@pytest.mark.parametrize("guard", guards.GUARDS)
def test_what_a_guard_runs_is_there(guard):
    words = guards.GUARDS[guard].split(" ")
    if words[0] == "module":
        assert "def guarded(" in (ROOT / (words[1].replace(".", "/") + ".py")).read_text()
        return
    files = [word for word in words if not word.startswith("-")]
    assert files and all((ROOT / file).is_file() for file in files)
    for word in words:
        if word.startswith("--deselect="):
            file, test = word.removeprefix("--deselect=").split("::")
            name = re.match(r"\w+", test).group()
            assert f"def {name}(" in (ROOT / file).read_text(), word


@pytest.mark.parametrize("mutant", every(), ids=lambda mutant: mutant.label)
def test_every_mutant_concerns_a_guard(mutant):
    assert mutant.occurrences() == 1 and mutant.becomes != mutant.anchor
    assert guards.applicable(mutant)


def test_guards_follow_imports():
    def of(file):
        return guards.applicable(SimpleNamespace(area="training", file=file))
    assert {"schedules", "compare"} <= set(of("ported/training/schedules.py"))
    assert {"resume", "compare"} <= set(of("train.py")) and "program" not in of("train.py")
    assert {"plan", "golden"} <= set(of("ported/memory.py"))
    assert {"three ways", "program"} <= set(of("reference/explicit/layernorm.py"))
    for area in guards.OWN:
        assert guards.applicable(SimpleNamespace(area=area, file="train.py")) == [area]


def test_counts_that_the_families_need():
    """At least so many bugs of each area, and something that must pass among them."""
    kinds = {area: [m.kind for m in every() if m.area == area] for area in AREAS}
    least = {"training": 35, "steps": 20, "bench": 10, "device": 15}
    assert all(found.count("mutant") >= least[area] for area, found in kinds.items())
    assert all({"honest", "equivalent"} & set(found) for found in kinds.values())


def test_a_witness_is_the_first_fact_that_differs():
    expected = {"a": {"x": "1"}, "b": {"y": "2", "z": "3"}}
    same = {name: {"code": 0, "facts": facts} for name, facts in expected.items()}
    assert guards.witness(same, expected) == ""
    other = {**same, "b": {"code": 0, "facts": {"y": "2", "z": "4"}}}
    assert guards.witness(other, expected) == "b: z: 3 in the original, 4 in the mutant"
    more = {**same, "b": {"code": 0, "facts": {"raises": "ValueError: no"}}}
    assert "2 in the original, nothing in the mutant" in guards.witness(more, expected)
    dead = {**same, "a": {"code": -11, "said": "fault"}}
    assert "nothing in the mutant" in guards.witness(dead, expected)


def test_jobs_run_apart(tmp_path, monkeypatch):
    """One that dies, one that hangs and one that cannot be run leave the others alone."""
    def boom():
        import faulthandler
        import os
        faulthandler.disable()  # pytest's, which would tell of it at length
        os.kill(os.getpid(), 11)

    def hang():
        import time
        time.sleep(100)
    for name, job in (("boom", boom), ("hang", hang), ("fine", lambda: {"a": "1"})):
        monkeypatch.setitem(scenarios.SCENARIOS, name, job)
    monkeypatch.setattr(guard_runs, "LIMIT", 5.0)
    guard_runs.run(tmp_path, ["scenario:boom", "scenario:hang", "guard:x=module checks.nothing",
                               "scenario:fine"])
    import json

    records = [json.loads((tmp_path / f"{k}.json").read_text()) for k in range(4)]
    assert [record["code"] for record in records] == [-11, guard_runs.LATE, guard_runs.BROKEN, 0]
    assert records[3]["facts"] == {"a": "1"}


CHECKOUT = {
    "checks/guards.py": "def one():\n    from ported import lazy\n    return {'x': lazy.SAID}\n"
                        "def two():\n    return {'y': open('ported/data.py').read()}\n"
                        "SCENARIOS = {'all': {'one': one, 'two': two}}\n",
    "checks/select.py": "raise SystemExit('the standard library has one')\n",
    "ported/lazy.py": "SAID = 'said'\n", "ported/data.py": "data", "ported/other.py": "",
    "right.py": "def guarded():\n    return 0\n", "wrong.py": "def guarded():\n    return 1\n"}


@pytest.fixture
def runner(tmp_path):
    """A runner, and a small checkout with two scenarios and two guards."""
    for name, text in CHECKOUT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    runner = guards.Runner()
    yield runner
    runner.close()


def test_a_runner_says_what_was_left_out_and_what_was_read(runner, tmp_path):
    scenes, wrong = ["scenario:one", "scenario:two"], "guard:x=module wrong"
    one, two = runner.ran(tmp_path, scenes)
    assert one["facts"] == {"x": "said"} and "ported/lazy.py" in one["read"]
    assert two["facts"] == {"y": "data"} and "ported/data.py" in two["read"]
    assert not {"ported/other.py", "ported/data.py", guard_runs.WHOLE} & set(one["read"])
    found = runner.ran(tmp_path, [*scenes, wrong, "guard:y=module right", wrong, wrong],
                       expected={"one": {"x": "else"}, "two": {"y": "data"}}, enough=2)
    assert [record and record["code"] for record in found] == [0, None, 1, 0, 1, None]


def test_a_runner_that_ends_is_no_verdict_and_the_next_begins(runner, tmp_path):
    assert runner.ran(tmp_path, ["scenario:one"])[0]["code"] == 0
    runner._process.kill()
    assert [r["code"] for r in runner.ran(tmp_path, ["scenario:one"])] == [guard_runs.LATE]
    assert runner.ran(tmp_path, ["scenario:one"])[0]["code"] == 0


def test_only_scenarios_that_read_the_file_are_run():
    known = {"a": {"facts": {"x": "1"}, "read": ["train.py"]},
             "b": {"facts": {"y": "2"}, "read": [guard_runs.WHOLE]}}
    assert guards.concerned("train.py", known) == {"a": {"x": "1"}, "b": {"y": "2"}}
    assert guards.concerned("compare.py", known) == {"b": {"y": "2"}}
    assert len(guards.concerned("ported/c_src/gemm.h", known)) == 2



def test_every_mutant_has_its_scenarios():
    names = [name for group in guards.SCENARIOS.values() for name in group]
    assert len(names) == len(set(names))
    found = {guards.shown_by(mutant) for mutant in every()}
    assert found == set(guards.SCENARIOS)


def test_scenarios_repeat_themselves():
    for name in ("schedules", "data", "proofs", "checkpoints"):
        assert scenarios.SCENARIOS[name]() == scenarios.SCENARIOS[name](), name
    assert scenarios_bench.clock() == scenarios_bench.clock()
