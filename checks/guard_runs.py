"""Runs scenarios and guards of checkouts, each in a process of its own: a server of forks.

    python -P checks/guard_runs.py < requests > answers

A request is one line of JSON: {"tree": checkout, "folder": where results go, "jobs":
["scenario:run", "guard:data=checks/test_training_loader.py", ...], "expected": {scenario: its
facts}, "enough": n}.
Leaves FOLDER/<number>.json for each job, {"code": exit code, "seconds": s, "said": its last words}
and for scenarios {"facts": ..., "read": files of the checkout}; LATE is the code of one that ran
out of time. No scenario runs after the first that differs from `expected`, no guard once `enough`
of them have refused. Then one line, `done`, is the answer.

What nearly all jobs import from elsewhere is imported once, before the first; of the checkouts
nothing is.
"""

import contextlib
import importlib
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
EARLY = ("numpy", "torch", "torch._dynamo", "safetensors.numpy", "pytest")
WHOLE = "*"  # among the files read: whatever another process reads


def serve() -> None:
    """Answers requests until the parent closes the pipe."""
    for name in EARLY:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        run(Path(request.pop("folder")), request.pop("jobs"), **request)
        print("done", flush=True)


def run(folder: Path, jobs: list[str], tree: str = "", expected: dict | None = None,
        enough: int = 1 << 30) -> None:
    """Every job in order, each a fork of this process, in `tree`."""
    refused, differs = 0, False
    for number, job in enumerate(jobs):
        kind, _, name = job.partition(":")
        if differs if kind == "scenario" else refused >= enough:
            continue
        begin = time.monotonic()
        child = os.fork()
        if child == 0:
            _alone(folder / str(number), job, tree)
        code = _waited(child, begin + LIMIT)
        record = {"code": code, "seconds": round(time.monotonic() - begin, 2)}
        facts, said = folder / f"{number}.facts", folder / f"{number}.said"
        if facts.is_file():
            record |= json.loads(facts.read_text())
        differs |= name in (expected or {}) and record.get("facts") != expected[name]
        refused += kind == "guard" and code not in (0, LATE)
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


def _alone(place: Path, job: str, tree: str) -> None:
    """In the child: the job, its words to a file; does not return."""
    os.setsid()  # a job that runs out of time goes with all that it started
    words = os.open(place.with_suffix(".said"), os.O_WRONLY | os.O_CREAT)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0), os.dup2(words, 1), os.dup2(words, 2)
    code = BROKEN
    try:
        if tree:
            os.chdir(tree)
            sys.path.insert(0, tree)
        import torch

        torch.set_num_threads(1)
        kind, _, rest = job.partition(":")
        code = {"scenario": _scenario, "guard": _guard}[kind](place, rest)
    except BaseException:  # whatever it was, the parent is told
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def _reading(root: str) -> set[str]:
    """The files under `root` that this process opens from now on, relative to it."""
    read: set[str] = set()

    def heard(event: str, given: tuple) -> None:
        if event == "open" and isinstance(given[0], str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(given[0]))
            if path.startswith(f"{root}/"):
                read.add(path[len(root) + 1:])
        elif event == "subprocess.Popen" and sys.executable in map(str, given[1]):
            read.add(WHOLE)
    sys.addaudithook(heard)
    return read


def _scenario(place: Path, name: str) -> int:
    root = os.getcwd()
    read = _reading(root)
    from checks import guards

    try:
        facts = next(one[name] for one in guards.SCENARIOS.values() if name in one)()
    except Exception as error:  # where the original does not raise, this is how they differ
        traceback.print_exc()
        facts = {"raises": f"{type(error).__name__}: {error}"}
    modules = (getattr(module, "__file__", None) or "" for module in [*sys.modules.values()])
    read.update(file[len(root) + 1:] for file in modules if file.startswith(f"{root}/"))
    place.with_suffix(".facts").write_text(json.dumps({"facts": facts, "read": sorted(read)}))
    return 0


def _guard(place: Path, name: str) -> int:
    """pytest on some tests, or a check that is a function `guarded(*words)` of a module."""
    _, _, what = name.partition("=")
    if what.startswith("module "):
        module, *words = what.removeprefix("module ").split(" ")
        return importlib.import_module(module).guarded(*words)
    import pytest

    return int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-seed=0",
                            "--no-header", "--tb=short", *what.split(" ")]))


if __name__ == "__main__":
    serve()
