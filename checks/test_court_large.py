"""The witness at large sizes: what two files print is held against each other, and what kept a file
from being looked at is not taken for an equal result."""

import json
import signal
import subprocess
from pathlib import Path

import pytest

from checks import court_large, kill_page, mutants
from ported.contract import ROOT

JOB = {"operation": "residual", "direction": "forward", "device": "cpu", "dtype": "float32"}
A, B, NO = {"out": "1"}, {"out": "2"}, {court_large.FAULT: "too much"}
ERROR = "Traceback\nMemoryError: 3 GiB"


def said(*launches, code: int = 0, error: str = "") -> subprocess.CompletedProcess:
    """A process that printed (size, outputs), or (size,) of a launch in which it ended."""
    lines = "".join(json.dumps({"launch": f"N={n}", **({"outputs": o[0]} if o else {})}) + "\n"
                    for n, *o in launches)
    return subprocess.CompletedProcess([], code, lines, error)


@pytest.fixture
def looked(monkeypatch):
    """What a witness finds where the processes say this, one after the other."""
    def look(*processes):
        todo = list(processes)

        def run(command, **_):
            one = todo.pop(0)
            if isinstance(one, Exception):
                raise one
            return one
        monkeypatch.setattr(subprocess, "run", run)
        found = court_large.witness(ROOT, Path("a.c"), Path("b.c"), JOB)
        assert not todo
        return found
    return look


LATE = subprocess.TimeoutExpired([], court_large.LIMIT, b"")


@pytest.mark.parametrize("processes, line, left, error", [
    ([said((1, A), (2, A)), said((1, A), (2, A))], "", [], ""),
    ([said((1, A), (2, A)), said((1, A), (2, B))], "N=2: out differ from the original's", [], ""),
    ([said((1, A), (2, None)), said((1, A), (2, None))], "", ["N=2"], ""),
    ([said((1, None), (2, A)), said((1, A), (2, A))], "", ["N=1"], ""),
    ([said((1, A), (2, A)), said((1, A), (2, None))], "", ["N=2"], ""),
    ([said((1, A), (2, None)), said((1, B), (2, None))], "N=1: out differ from the original's", [],
     ""),
    ([said((1, A), (2, A)), said((1, A), (2,), code=-11)], "N=2: fault: ends with code -11", [],
     ""),
    ([said((1, A)), said((1, A), code=3)], "after the last launch: fault: ends with code 3", [],
     ""),
    ([said((1, A)), LATE], "after the last launch: fault: does not end within 240.0 s", [], ""),
    ([said((1, A)), said(code=-signal.SIGKILL)], "", [],
     "the mutant ends with code -9: short of memory?"),
    ([said((1, A)), said((1, A), (2, A), (3, None))], "", [], ""),
    ([said((1, A), (2, NO)), said((1, A), (2, NO), (3, NO))], "N=3: fault: too much", [], ""),
    ([said((1, A), (2, NO)), said((1, A))], "", [], ""),
    ([said((1, A), (2, NO)), said((1, A), (2, A))],
     "N=2: out, fault differ from the original's", [], ""),
    ([said((1, A), (2, A)), said((1, A))], "", [], "launches that the mutant does not have: N=2"),
    ([said((1, A), code=1, error=ERROR), said((1, A)), said((1, A))], "", [], ""),
    ([said(code=1), said((1, A), code=1, error=ERROR)], "", [],
     "the file that it was made from ends with code 1: MemoryError: 3 GiB"),
    ([LATE, LATE], "", [], "the file that it was made from does not end within 240.0 s")])
def test_what_is_seen(looked, processes, line, left, error):
    assert looked(*processes) == {"line": line, "left": left, "error": error}


@pytest.mark.parametrize("label, words", [
    ("global_norm/update_runs_overflow", ("S=16777233", "fault: ends with code -11")),
    ("classifier_cuda/forward_next_row_needs_nothing", ("Vp=65536", "fault", "shared memory"))])
def test_real_files(label, words, tmp_path):
    """Wrong copies whose faults begin where no plan's size reaches, the second where only its own
    `needs` do."""
    [mutant] = [m for m in mutants.read_all() if m.label == label]
    original, wrong = ROOT / mutant.judged, mutants.copied(tmp_path / "tree") / mutant.file
    wrong.write_text(original.read_text().replace(mutant.anchor, mutant.becomes))
    found = court_large.witness(ROOT, original, wrong, {
        "operation": mutant.operation, "direction": mutant.direction,
        "dtype": mutant.dtype or "float32",
        "device": "emulated" if mutant.language == "cu" else "cpu"})
    assert all(word in found["line"] for word in words) and not found["error"], found


def test_the_page_says_what_was_not_looked_at():
    row = {"witness": "", "left": ["N=5", "N=6"]}
    assert kill_page._seen(row) == "too long for a look: 2, N=5"
    assert kill_page._seen(row | {"witness": "N=1: out"}) == "N=1: out"
    assert kill_page._seen({"witness": ""}) == ""
