"""The mutants' files, how a patch is applied, witnesses, sums of rows, the page, and a sample."""

import json
import os
import re
from types import SimpleNamespace

import pytest

from checks import court_verdict, kill_count, kill_page, matrix, mutants, witness
from checks.court import Court, Store
from checks.courts import all_of
from checks.mutants import FAMILIES, Mutant, MutantError, NotApplied
from ported.contract import ROOT

ALL = mutants.read_all()
WRONG = [mutant for mutant in ALL if mutant.kind == "mutant"]
# The bugs that no list of mutants may lack, as their entries call them; several operations each.
LISTED = {
    "nothing": "no-op over an old right answer; last tile never written; zeros; ignores weight or "
               "bias; all NaN; finite where Inf is due; one row of garbage; result in a view of an "
               "input",
    "fitted": "C = 768 written in; tail not masked; tail reads luckily zero; fails at size 1 or 0; "
              "int32 overflow; shared memory over the limit at large C; only the default block is "
              "right; assumes inputs >= 0; caches by pointer; right ten times, then not",
    "memory": "writes past the end; harmless read past the end; uses scratch uncleared; changes "
              "an input; overwrites what backward needs; 0 x NaN of an old output",
    "concurrency": "missing barrier; full shuffle mask in a divergent branch; atomics under a "
                   "claim of determinism; wrong stream; fails once in many",
    "precision": "TF32 or bf16 accumulation under an fp32 claim; fast-math; wrong eps; n-1 for n; "
                 "naive sequential sum over N; dropped last term; one element 1 % off; online "
                 "softmax without rescale",
    "gradients": "= for +=; += for =; missing 1/N; 1/sqrt(C) for 1/sqrt(D); heads permuted both "
                 "ways; gamma ignored; a branch of the residual dropped; repeated tokens lost; "
                 "padded vocabulary counted; dlogits over logits still needed",
    "training": "tied weight overwritten; weight decay on biases; recompute from the wrong layer; "
                "resume loses state; targets shifted by one",
    "timing": "work on another stream; one launch serving many timed calls; persisting-L2 window; "
              "too small a flush; zeros as data; work moved to untimed set-up; a failed launch "
              "being fast; winner of many noisy tries",
}

SAID = {"too small a flush": "too small a rotation",  # buffers rotate; there is no flush
        "work moved to untimed set-up": "work moved into the untimed set-up"}


def test_every_patch_fits_exactly_once():
    wrong = [f"{m.label}: {m.occurrences()} times in {m.file}" for m in ALL
             if m.occurrences() != 1 or m.anchor == m.becomes or not (ROOT / m.judged).is_file()]
    assert ALL and not wrong, "\n".join(wrong)


def test_no_two_are_the_same():
    found: dict[tuple, list[str]] = {}
    for m in ALL:
        text = (ROOT / m.file).read_text().replace(m.anchor, m.becomes)
        found.setdefault((m.file, m.version, m.dtype, " ".join(text.split())), []).append(m.label)
    assert not [labels for labels in found.values() if len(labels) > 1]


def test_there_are_enough_of_every_kind():
    kernels = [m for m in WRONG if m.kernel]
    assert len(WRONG) >= 150
    assert sum(m.direction == "backward" for m in kernels) >= 30
    assert sum(m.file.startswith(("ported/training", "train.py", "ported/", "reference/"))
               for m in WRONG if not m.kernel) >= 25
    assert {m.language for m in kernels} >= {"c", "cu"}
    assert sum(m.kind == "honest" for m in ALL) >= 20
    assert any(m.kind == "equivalent" for m in ALL)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_listed_bug_has_mutants(family):
    found = {m.bug.lower() for m in WRONG}
    missing = [bug for bug in LISTED[family].split("; ")
               if not any(one.startswith(SAID.get(bug, bug).lower()) for one in found)]
    assert not missing, f"no mutant has the bug {'; '.join(missing)}"
    assert len({m.operation for m in WRONG if m.family == family}) > 1 or family in (
        "training", "timing")


ENTRY = """
[[mutant]]
name = "one"
family = "memory"
bug = "a bug"
file = "ported/c_src/gelu/forward_01_loops.c"
anchor = "GELU"
becomes = "gelu"
"""


@pytest.mark.parametrize("text,said", [
    (ENTRY + 'colour = "red"\n', "found colour; known keys: name, family"),
    (ENTRY.replace('"memory"', '"weather"'), "found the family 'weather'; known: nothing, fitted"),
    (ENTRY + 'kind = "odd"\n', "found the kind 'odd'; known: mutant, equivalent, honest"),
    (ENTRY + 'kind = "equivalent"\n', "found no `why`"),
    (ENTRY.replace('bug = "a bug"\n', ""), "found no bug; needed: name"),
    (ENTRY + ENTRY, "found one twice"),
    (ENTRY.replace("gelu/forward_01_loops.c", "gemm.h"), "name the version through which"),
    ("[other]\n", "expected [[mutant]] entries"),
    ("[[mutant", "gelu.toml: "),
])
def test_an_entry_that_cannot_be_read(text, said, tmp_path):
    path = tmp_path / "gelu.toml"
    path.write_text(text)
    with pytest.raises(MutantError, match=re.escape(said)):
        mutants.read(path)


def planted(**changes) -> Mutant:
    given = {"area": "planted", "name": "one", "family": "gradients", "bug": "= for +=",
             "file": "ported/c_src/layernorm/backward_01_loops.c", "anchor": "", "becomes": ""}
    return Mutant(**{**given, **changes})


def test_a_patch_lasts_as_long_as_its_context(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("x = 1\n")
    mutant = planted(file="train.py", anchor="x = 1", becomes="x = 2")
    with mutants.applied(mutant, tmp_path) as judged:
        assert judged.read_text() == "x = 2\n"
    assert path.read_text() == "x = 1\n"
    path.write_text("x = 1\nx = 1\n")
    for wrong in (mutant, planted(file="nowhere.c", anchor="x")):
        with pytest.raises(NotApplied, match="expected the anchor once"):
            with mutants.applied(wrong, tmp_path):
                pass


def judged(tmp_path, *chosen: Mutant) -> list[dict]:
    return all_of([lambda court, m=m: court.judge(m) for m in chosen], [m.becomes for m in chosen],
                  len(os.sched_getaffinity(0)), Store(tmp_path / "store"), "", lambda row: None)


@pytest.mark.parametrize("second, third", [("proved", ""), ("refused", ""),
                                           ("crashed", "refused")])
def test_a_crash_is_the_kernel_s_where_a_new_process_repeats_it(second, third, tmp_path,
                                                                monkeypatch):
    """Others ran in the process before, and may have written over what is not theirs."""
    said = [{"verdict": verdict, "refused": {}, "faults": [], "seconds": 1.0}
            for verdict in ("crashed", second, third) if verdict]
    with Court(ROOT, ROOT, tmp_path, Store(tmp_path / "store")) as court:
        monkeypatch.setattr(court, "prove", lambda job, **more: said.pop(0))
        job = {"device": "cpu", "dtype": "float32", "operation": "gelu"}
        found = court._proof(job, ["the original's", "the mutant's"])
    assert found["verdict"] == second and not said
    assert found.get("again", {}).get("verdict", "") == third


LOOP = "dweight[c] += "  # stands once in the version below


def test_states_of_what_was_judged(tmp_path):
    """Killed with a witness, no difference, a wrong patch, and one that does not compile."""
    text = (ROOT / planted().file).read_text()
    line = next(line for line in text.splitlines() if LOOP in line)
    body = line.partition("+= ")[2]
    assert text.count(line) == 1
    rows = judged(
        tmp_path,
        planted(anchor=line, becomes=line.replace("+=", "=")),
        planted(anchor=line, becomes=f"{line.partition('+=')[0]}+= ({body.rstrip(';')});",
                kind="equivalent"),
        planted(anchor="no such words", becomes=""),
        planted(anchor=line, becomes="no_such_thing;"),
        planted(anchor=line, becomes="*(volatile int *)0 = 1;"))
    killed, equal, absent, broken, crashed = rows
    assert [row["state"] for row in rows] == [
        "killed-by", "equivalent", "not-applied", "not-compiled", "killed-by"], rows
    assert "accumulate" in killed["by"] and "dweight[" in killed["witness"]
    assert killed["ran"]["accumulate"] > 0 and not equal["witness"] and not equal["by"]
    assert "SIGSEGV" in crashed["witness"] and str(tmp_path) not in json.dumps(rows)


@pytest.mark.parametrize("by,seen,kind,state", [
    (["gate"], "differs", "mutant", "killed-by"), ([], "differs", "mutant", "survived"),
    (["gate"], "", "mutant", "refused without a witness"), ([], "", "mutant", "no witness"),
    ([], "differs", "equivalent", "survived"), ([], "", "equivalent", "equivalent"),
    (["gate"], "", "reject", "killed-by")])
def test_a_state_follows_from_proof_and_witness(by, seen, kind, state):
    said = {"verdict": "refused" if by else "proved", "by": by, "first": ""}
    assert court_verdict.verdict(said, seen, kind)["state"] == state


@pytest.mark.parametrize("by,tier,state", [
    ([], "fast", "no witness"), (["round"], "deep", "refused without a witness")])
def test_what_shows_no_difference_is_asked_of_both_tiers(by, tier, state, tmp_path, monkeypatch):
    """Proofs and witness planted: a whole deep proof takes a minute."""
    asked = []

    def proof(job, digests):
        asked.append(job.get("tier", "fast"))
        said = by if asked[-1] != "fast" else []
        return {"verdict": "refused" if said else "proved", "by": said, "first": "", "ran": {},
                "seconds": 1.0, "hints": []}
    line = next(line for line in (ROOT / planted().file).read_text().splitlines() if LOOP in line)
    with mutants.throw_away() as tree, Court(tree, ROOT, tmp_path, Store(tmp_path)) as court:
        monkeypatch.setattr(court, "_proof", proof)
        for look in ("_witness", "_large_witness"):
            monkeypatch.setattr(court, look, lambda *given: {"line": "", "error": "", "seconds": 0})
        found = court.judge(planted(anchor=line, becomes=line.replace("+=", "-=")))
    assert (found["state"], found["tier"], found["by"]) == (state, tier, by)
    assert asked == ["fast", "more", *([] if by else ["deep"])]


@pytest.mark.parametrize("by,tier,state", [
    (["artifact"], "fast", "killed-by"), (["round"], "deep", "killed-by"),
    ([], "deep", "survived")])
def test_the_compiled_file_is_the_fast_tier_s(by, tier, state, tmp_path):
    """It is asked with the deep tier's checks, and part of every proof."""
    deep = {"verdict": "refused" if by else "proved", "by": by, "first": "", "stopped": False,
            "ran": {name: 2.0 for name in by}, "seconds": 2.0}
    with Court(ROOT, ROOT, tmp_path, Store(tmp_path / "store")) as court:
        found = court._told_by(deep, row("survived", (), total=3.0), planted())
    assert (found["tier"], found["state"], found["by"]) == (tier, state, by)
    assert found["total"] == 5.0 and {"gate", *by} == set(found["ran"])


@pytest.mark.parametrize("crashes,expected", [(0, ""), (1, ""), (2, "crashed: SIGSEGV")])
def test_a_process_that_dies_once_is_asked_again(crashes, expected, tmp_path, monkeypatch):
    """Those that ran in it before may have spoilt it; what dies twice does so by itself."""
    same = {"verdict": "traced", "traces": [], "plan": [], "hinted": 0, "twins": []}
    dead = {"verdict": "crashed", "faults": [{"message": "SIGSEGV"}]}
    answers = [dead] * crashes + [same]
    search = witness.Search(None, SimpleNamespace(prove=lambda job, limit: answers.pop(0)),
                            tmp_path)
    monkeypatch.setattr(search, "_original", lambda job, plan: same)
    assert search.find(tmp_path / "a.c", tmp_path / "b.c", {}) == expected


def row(state="killed-by", by=("gate", "values"), **more) -> dict:
    return {"name": "a/b", "state": state, "by": list(by), "kind": "mutant", "family": "memory",
            "operation": "gelu", "ran": {"gate": 1.0}, "why": "", "first": "", "witness": "w",
            **more}


def test_only_what_a_check_refused_counts_as_killed():
    rows = [row(), row("survived", ()), row("crashed", ()), row("no witness", ()),
            row("not run here", ()), row("not-compiled", ()), row("refused without a witness"),
            row(kind="honest", state="equivalent")]
    assert (len(kill_count.killed(rows)), len(kill_count.witnessed(rows))) == (1, 3)
    assert kill_count.share(rows) == 1 / 3 and kill_count.share([]) == 0
    assert len(kill_count.unexplained(rows)) == 5


@pytest.mark.parametrize("by,alone", [
    (["gate"], "gate"), (["gate", "values"], "values"), (["shapes", "gate"], "shapes"),
    (["shapes", "gate", "values"], "gate"), (["poison"], "poison"), (["poison", "gate"], ""),
    ([], "")])
def test_a_unique_kill_is_one_that_no_other_kind_of_check_shares(by, alone):
    assert kill_count.alone(by) == alone


def test_a_run_without_its_controls_is_void():
    whole = {"rows": [row(kind="equivalent", state="equivalent"),
                      row(kind="honest", state="equivalent")],
             "empty": [row("refused")], "rejects": []}
    assert not kill_count.controls(whole)
    for part, wrong in (("rows", [row(kind="equivalent"), row(kind="honest", state="equivalent")]),
                        ("rows", [row(kind="honest", state="refused without a witness"),
                                  row(kind="equivalent", state="equivalent")]),
                        ("empty", [row("proved", ())]), ("empty", []), ("rows", [])):
        assert kill_count.controls({**whole, part: wrong}), wrong


def test_a_survivor_without_a_reason_fails_the_run():
    some = {"rows": [row()] * 99 + [row("survived", ())], "rejects": []}
    assert len(kill_count.short(some)) == 1
    some["rows"][-1]["why"] = "what would catch it"
    assert not kill_count.short(some)
    some["rows"] += [row("survived", (), why="known")] * 3
    assert "96.1%" in kill_count.short(some)[0]
    assert kill_count.short({"rows": [], "rejects": [row("survived", ())]})


@pytest.fixture
def written() -> dict:
    """What the last written run of the whole matrix found."""
    assert kill_page.JSON.is_file(), "`make mutants ARGS=--write` writes it"
    return kill_page.load()


def test_the_page_is_that_of_the_json(written):
    known = written
    assert kill_page.PAGE.read_text() == kill_page.page(known)
    assert not kill_count.controls(known["matrix"]) and not kill_count.short(known["matrix"])
    assert "cuda" in known and not kill_count.unexplained(kill_page.on_a_gpu(known))
    names = {m.label for m in ALL}
    strangers = {r["name"] for r in known["matrix"]["rows"]} - names
    assert not strangers, f"the page holds mutants that are gone: {strangers}"


def test_every_check_without_a_unique_kill_has_a_reason(written):
    known = written["matrix"]
    found = kill_count.by_check(known["rows"], known["rejects"])
    bare = [name for name, n in found.items() if name in kill_count.CHECKS and not
            (n["unique"] or n["unique_rejects"] or kill_count.CHECKS[name][1])]
    assert set(kill_count.ALL) <= set(kill_count.CHECKS) and not bare, bare


def test_a_sample_has_every_family():
    chosen = matrix.sampled(ALL, 0, {})
    assert {m.family for m in chosen} == {m.family for m in ALL}
    assert {m.kind for m in chosen} == set(mutants.KINDS)
    assert matrix.sampled(ALL, 0, {}) == chosen != matrix.sampled(ALL, 1, {})


def test_the_sample_is_killed(capsys):
    """Each family at least once, from today's kernels and today's checks."""
    assert matrix.main(["--sample", "--anew"]) == 0, capsys.readouterr().out
