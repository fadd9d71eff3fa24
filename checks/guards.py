"""The guards of what is no kernel: trainer, steps, bench, and the cuda device's host side; and how
a mutant of those is judged.

    from checks.guards import Runner, judge
    judge(mutant, tree, Runner())      # tree: a throw-away copy of the checkout, patched

A guard is a few tests, or compare.py, run in the patched tree; it refuses where its exit code is
not 0. Every guard runs whose files import the patched one. The witness is found apart from all
guards: scenarios (checks/scenarios.py) whose facts differ from those of the original.
"""

import ast
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

from checks import scenarios, scenarios_bench, scenarios_device
from checks.guard_runs import BROKEN, LATE, WHOLE
from ported.contract import ROOT
from ported.device.cpu import cache_directory
from ported.parsing import parsed

FIRST = ("compare",)  # of mutants that change a buffer, which compare.py has to name
TWO = 2  # refusals after which no guard is asked: none has the kill for itself
NO_VERDICT = (4, 5, BROKEN)  # pytest: wrong usage, no test; and what guard_runs says
KNOWN: dict[tuple[Path, str], dict] = {}  # what originals gave, by checkout and group
ONE_AT_A_TIME = threading.Lock()  # judges are threads
T = "checks/test_"


def _but(file: str, *tests: str) -> str:
    """A file of tests without some that take seconds, or look at the clock, and show nothing that
    others do not."""
    left = (f"--deselect={T}{file}.py::test_{test}" for test in tests)
    return " ".join([f"{T}{file}.py", *left])


# The quickest first.
GUARDS: dict[str, str] = {
    "schedules": f"{T}training_schedules.py",
    "sampling": f"{T}training_sampling.py",
    "evidence": f"{T}training_evidence.py",
    "log": f"{T}training_runs.py {T}training_outlier.py",
    "start": f"{T}training_start.py {T}training_config.py",
    "data": f"{T}training_loader.py {T}training_tokens.py",
    "plan": f"{T}memory.py",
    "three ways": f"{T}reference.py",
    "program": f"{T}program.py",
    "files": _but("training_checkpoint", "kill_9_at_any_moment")
    + f" {T}training_hugging_face.py",
    "golden": _but("golden", "curves_made_anew_are_the_same[tiny-2]"),
    "resume": _but("training_train", "twenty_kills_change_nothing", "second_ctrl_c_kills_at_once",
                   "bad_input_is_refused_in_words", "other_data_than_the_checkpoint_s",
                   "micro_batches_agree", "it_learns_and_says_so", "overfitting_one_batch"),
    "compare": "module checks.guard_compare",
    "bench": f"{T}bench_host.py {T}bench.py",
    "device": f"{T}cuda_asked.py {T}cuda_host.py {T}cuda_faults.py",
}
OWN = ("bench", "device")  # areas of mutants that concern one guard, of that name, and no other
# What a guard starts without importing it: train.py as a process; operations by their names.
STARTS = {"resume": ["train.py"]}
DYNAMIC = ("reference/interpreter.py", "checks/cases.py", "checks/test_reference.py")


def _imports(path: Path) -> list[ast.AST]:
    """A file's import statements; in checks/ those that importing it makes, elsewhere late ones
    too, since the trainer imports much where it is needed."""
    tree = parsed((ROOT / path).read_text())
    nodes = tree.body if path.parts[0] == "checks" else ast.walk(tree)
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def _modules(path: Path) -> set[str]:
    """Files of the checkout that a file imports, relative to the root."""
    found = set()
    for node in _imports(path):
        names = [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{name}" for name in names)]
        for name in names:
            for file in (name.replace(".", "/") + ".py", name.replace(".", "/") + "/__init__.py"):
                if (ROOT / file).is_file():
                    found.add(file)
    return found


@cache
def reached(guard: str) -> frozenset[str]:
    """Every file that a guard's files import, directly or not. Operations are imported by name, so
    whoever imports the interpreter reaches all explicit functions, and stock ones with them."""
    what = GUARDS[guard]
    first = [what[7:].replace(".", "/") + ".py"] if what.startswith("module ") else [
        word for word in what.split(" ") if not word.startswith("-")]
    found, todo = set(), [*first, *STARTS.get(guard, ())]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo += _modules(Path(path))
            if path in DYNAMIC:
                todo += [p.relative_to(ROOT).as_posix() for part in ("explicit", "stock")
                         for p in (ROOT / "reference" / part).glob("*.py")]
    return frozenset(found)


def applicable(mutant) -> list[str]:
    """Guards that the patch could concern. Of the bench's mutants, whose kernels compute what they
    should, that is the bench's alone; of the cuda device's, which no step here runs on, its own."""
    if mutant.area in OWN:
        return [mutant.area]
    return [guard for guard in GUARDS if guard not in OWN and mutant.file in reached(guard)]


class Runner:
    """A process that runs jobs in checkouts (guard_runs.py of the checkout `root`)."""

    def __init__(self, root: Path = ROOT):
        self.root = root
        self._process: subprocess.Popen | None = None

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close(), self._process.stdout.close()
            self._process = None

    def _answered(self, request: dict) -> bool:
        """Sends a request and waits for its answer; a process that is gone gives none."""
        if self._process is None:
            environment = {**os.environ, "OMP_WAIT_POLICY": "passive",
                           "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}  # its other look spoils forks
            self._process = subprocess.Popen(
                [sys.executable, "-P", "checks/guard_runs.py"], cwd=self.root, env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer != "done\n":
            self.close()
        return bool(answer)

    def ran(self, tree: Path, jobs: list[str], **more) -> list[dict | None]:
        """Each job's record; None of one that was left out, because enough was known (`more`:
        `expected`, `enough`), and code LATE where the process ended."""
        with tempfile.TemporaryDirectory() as folder:
            request = {"folder": folder, "tree": str(tree.resolve()), "jobs": jobs, **more}
            gone = {"code": LATE, "seconds": 0.0, "said": "the process that runs guards ended"}
            missing = None if self._answered(request) else gone
            files = [Path(folder) / f"{number}.json" for number in range(len(jobs))]
            return [json.loads(file.read_text()) if file.is_file() else missing for file in files]


def sources(tree: Path) -> str:
    """A digest of every file that scenarios may run."""
    whole = hashlib.sha256()
    for folder in ("checks", "ported", "reference", "."):
        for path in sorted((tree / folder).glob("*.py" if folder == "." else "**/*.[pch]*")):
            if path.suffix in (".py", ".c", ".h") and path.is_file():
                whole.update(path.relative_to(tree).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()[:20]


SCENARIOS = {"steps": scenarios.SCENARIOS, "bench": scenarios_bench.SCENARIOS,
             "device": scenarios_device.SCENARIOS}


def shown_by(mutant) -> str:
    """Which scenarios look for a mutant's witness."""
    return mutant.area if mutant.area in OWN else "steps"


def originals(runner: Runner, root: Path = ROOT, of: str = "steps") -> dict[str, dict]:
    """Of the scenarios of trainer and steps, of the bench, or of the device, in the checkout
    itself: the `facts`, and the files that were `read`. Kept in the user's cache."""
    with ONE_AT_A_TIME:
        return _originals(runner, root, of)


def _originals(runner: Runner, root: Path, of: str) -> dict[str, dict]:
    key = (root, of)
    if key in KNOWN:
        return KNOWN[key]
    path = cache_directory() / "scenarios" / f"{of}-{sources(root)}.json"
    if path.is_file():
        KNOWN[key] = json.loads(path.read_text())
        return KNOWN[key]
    records = runner.ran(root, [f"scenario:{name}" for name in SCENARIOS[of]])
    wrong = [r["said"] for r in records if "facts" not in r or "raises" in r["facts"]]
    if wrong:
        raise RuntimeError(f"a scenario fails in the checkout itself: {wrong[0][-500:]}")
    KNOWN[key] = {name: {"facts": record["facts"], "read": record["read"]}
                  for name, record in zip(SCENARIOS[of], records, strict=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_suffix(f".{os.getpid()}")
    making.write_text(json.dumps(KNOWN[key]))
    os.replace(making, path)
    return KNOWN[key]


def concerned(file: str, known: dict[str, dict]) -> dict[str, dict[str, str]]:
    """The facts of those scenarios that a patch of `file` can change: the original's run read it,
    or it is no Python, which compilers read."""
    return {name: one["facts"] for name, one in known.items()
            if not file.endswith(".py") or {file, WHOLE} & set(one["read"])}


def witness(records: dict[str, dict], expected: dict[str, dict[str, str]]) -> str:
    """The first fact that differs, in words; empty where none does. `records` by scenario."""
    for name, facts in expected.items():
        record = records[name]
        found = record["facts"] if "facts" in record else {
            "ends": f"code {record['code']}: {record['said'][-300:]}"}
        if found == facts:
            continue
        key = next(key for key in [*facts, *found] if facts.get(key) != found.get(key))
        before, now = (str(some.get(key, "nothing"))[:120] for some in (facts, found))
        return f"{name}: {key}: {before} in the original, {now} in the mutant"
    return ""


def message(said: str) -> str:
    """The line of a guard's words that says most."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("E  ", "FAILED", "ERROR", "first to"))
               or "FAULT: " in line]
    return (telling or lines or [""])[0][:300]


def _asked(mutant, tree: Path, runner: Runner, enough: bool) -> tuple[dict[str, dict], str]:
    """The records of the guards that were run, by name, and the witness."""
    names, culprit = applicable(mutant), getattr(mutant, "culprit", "")
    expected = concerned(mutant.file, originals(runner, runner.root, shown_by(mutant)))
    jobs = {name: f"scenario:{name}" for name in expected}
    first = [name for name in names if name in FIRST and enough and culprit] or names
    rest = [name for name in names if name not in first]
    records: dict[str, dict | None] = {}
    for part in (first, rest) if rest else (first,):
        jobs |= {f"guard {name}": f"guard:{name}={GUARDS[name]}" for name in part}
        if enough and "guard compare" in jobs:  # no further than to the culprit
            jobs["guard compare"] += f" {culprit}"
        found = runner.ran(tree, list(jobs.values()), expected=expected,
                           **({"enough": TWO} if enough else {}))
        records |= dict(zip(jobs, found, strict=True))
        jobs = {}
        if any(record and record["code"] for name, record in records.items()
               if name.startswith("guard ")):
            break
    guards = {name: records[f"guard {name}"] for name in names if records.get(f"guard {name}")}
    return guards, witness(records, expected)


def judge(mutant, tree: Path, runner: Runner, enough: bool = False) -> dict:
    """How the guards take a mutant whose patch stands in `tree`; the original is `runner.root`.
    `enough`: where there is a culprit, compare.py comes first and ends when it has named it; if it
    refuses, no other guard is run. Of the others none is once TWO have refused, the quickest
    first: no kill is then one guard's alone.

    state: killed-by, survived, timed-out, or equivalent (no witness). `by`: guards that refuse,
    `first` what the first of them said, `ran` seconds by guard, `named` what --bisect named.
    """
    begin = time.monotonic()
    records, seen = _asked(mutant, tree, runner, enough)
    broken = [name for name, record in records.items() if record["code"] in NO_VERDICT]
    if broken:
        raise RuntimeError(f"guards {broken} could not be run: {records[broken[0]]['said'][-500:]}")
    hangs = f"code {LATE}" in seen  # only then is a guard that does not end a refusal
    by = [name for name, record in records.items()
          if record["code"] != 0 and (record["code"] != LATE or hangs)]
    late = any(record["code"] == LATE for record in records.values())
    lines = records.get("compare", {}).get("said", "").splitlines()
    named = " ".join(dict.fromkeys(line[7:] for line in lines if line.startswith("named: ")))
    culprit = getattr(mutant, "culprit", "")
    state = "equivalent" if not seen else "killed-by" if by else "timed-out" if late else "survived"
    return {"state": state, "by": by, "first": message(records[by[0]]["said"]) if by else "",
            "witness": seen, "seconds": round(time.monotonic() - begin, 2),
            "ran": {name: record["seconds"] for name, record in records.items()},
            "named": named, "culprit_named": culprit in named.split() if culprit else None}
