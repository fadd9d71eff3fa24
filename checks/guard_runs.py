"""Runs scenarios and guards of the checkout it stands in, each in a process of its own.

    python -m checks.guard_runs FOLDER scenario:run 'guard:data=checks/test_training_loader.py' ...

Leaves FOLDER/<number>.json for each, {"code": exit code, "seconds": s, "said": its last words} and
for scenarios {"facts": ...}; LATE is the code of one that ran out of time. Where
FOLDER/expected.json gives the facts of scenarios, no scenario runs after the first that differs.
PyTorch, which nearly all of them need, is imported once, before; nothing of the checkout is.
"""

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

LIMIT = 300.0  # seconds; on a quiet machine no guard of an honest checkout takes a tenth
LATE = -1  # exit code of a job that was stopped then
WORDS = 4000
BROKEN = 70  # exit code of a job that could not be run at all


def main(folder: Path, jobs: list[str]) -> None:
    """Every job in order, each a fork of this process."""
    import numpy  # noqa: F401
    import torch  # noqa: F401

    expected = folder / "expected.json"
    expected = json.loads(expected.read_text()) if expected.is_file() else {}
    for number, job in enumerate(jobs):
        kind, _, name = job.partition(":")
        if kind == "scenario" and expected is None:
            continue
        begin = time.monotonic()
        child = os.fork()
        if child == 0:
            _alone(folder / str(number), job)
        code = _waited(child, begin + LIMIT)
        record = {"code": code, "seconds": round(time.monotonic() - begin, 2)}
        facts, said = folder / f"{number}.facts", folder / f"{number}.said"
        if facts.is_file():
            record["facts"] = json.loads(facts.read_text())
        if expected and name in expected and record.get("facts") != expected[name]:
            expected = None
        record["said"] = said.read_text(errors="replace")[-WORDS:]
        (folder / f"{number}.json").write_text(json.dumps(record))


def _waited(child: int, end: float) -> int:
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return LATE


def _alone(place: Path, job: str) -> None:
    """In the child: the job, its words to a file; does not return."""
    os.setsid()  # a job that runs out of time goes with all that it started
    words = os.open(place.with_suffix(".said"), os.O_WRONLY | os.O_CREAT)
    os.dup2(words, 1), os.dup2(words, 2)
    code = BROKEN
    try:
        import torch

        torch.set_num_threads(1)
        kind, _, rest = job.partition(":")
        code = {"scenario": _scenario, "guard": _guard}[kind](place, rest)
    except BaseException:  # whatever it was, the parent is told
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def _scenario(place: Path, name: str) -> int:
    from checks import guards

    try:
        facts = next(one[name] for one in guards.SCENARIOS.values() if name in one)()
    except Exception as error:  # where the original does not raise, this is how they differ
        traceback.print_exc()
        facts = {"raises": f"{type(error).__name__}: {error}"}
    place.with_suffix(".facts").write_text(json.dumps(facts))
    return 0


def _guard(place: Path, name: str) -> int:
    """pytest on some tests, or a check that is a function `guarded(*words)` of a module."""
    _, _, what = name.partition("=")
    if what.startswith("module "):
        import importlib

        module, *words = what.removeprefix("module ").split(" ")
        return importlib.import_module(module).guarded(*words)
    import pytest

    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0",
                            "--no-header", "--tb=short", *what.split(" ")]))


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main(Path(sys.argv[1]), sys.argv[2:])
