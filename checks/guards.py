"""The guards of what is no kernel: trainer, steps, bench; and how a mutant of those is judged.

    from checks.guards import judge
    judge(mutant, tree)      # tree: a throw-away copy of the checkout with the patch applied

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
import time
from functools import cache
from pathlib import Path

from checks import scenarios, scenarios_bench, scenarios_gpu
from checks.guard_runs import BROKEN, LATE
from ported.contract import ROOT
from ported.device.cpu import cache_directory
from ported.parsing import parsed

FIRST = ("compare",)  # the trainer's own guard, which is to catch them all
LIMIT = 3000.0  # seconds for all guards of one mutant
NO_VERDICT = (4, 5, BROKEN)  # pytest: wrong usage, no test; and what guard_runs says
T = "checks/test_"


def _but(file: str, *tests: str) -> str:
    """A file of tests without some that take seconds, or look at the clock, and show nothing that
    others do not."""
    left = (f"--deselect={T}{file}.py::test_{test}" for test in tests)
    return " ".join([f"{T}{file}.py", *left])


GUARDS: dict[str, str] = {
    "schedules": f"{T}training_schedules.py",
    "data": f"{T}training_loader.py {T}training_tokens.py",
    "files": _but("training_checkpoint", "kill_9_at_any_moment")
    + f" {T}training_hugging_face.py",
    "start": f"{T}training_start.py {T}training_config.py",
    "log": f"{T}training_runs.py {T}training_outlier.py",
    "sampling": f"{T}training_sampling.py",
    "resume": _but("training_train", "twenty_kills_change_nothing", "second_ctrl_c_kills_at_once",
                   "bad_input_is_refused_in_words", "other_data_than_the_checkpoint_s"),
    "low": _but("training_low", "other_precisions_begin_from_a_checkpoint",
                "bfloat16_trains_as_the_interpreter_that_rounds", "bad_precisions",
                "a_step_is_done_again_to_name_what_fails"),
    "evidence": f"{T}training_evidence.py",
    "three ways": f"{T}reference.py",
    "program": f"{T}program.py",
    "executor": _but("executor", "two_launches_compile_to_a_cubin",
                     "start_does_not_touch_memory_and_steps_cost_little"),
    "plan": f"{T}memory.py",
    "golden": _but("golden", "curves_made_anew_are_the_same[tiny-2]"),
    "compare": "module checks.guard_compare",
    "bench": f"{T}bench.py {T}bench_host.py",
    "bench on cuda": "module checks.guard_bench",
}
# What a guard starts without importing it: train.py as a process; operations by their names.
STARTS = {"resume": ["train.py"], "low": ["train.py"]}
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
    """Guards that the patch could concern; of the bench's mutants, whose kernels compute what they
    should, the bench's alone."""
    if mutant.area == "bench":
        return ["bench on cuda" if mutant.device == "cuda" else "bench"]
    return [guard for guard in GUARDS
            if not guard.startswith("bench") and mutant.file in reached(guard)]


def _ran(tree: Path, jobs: list[str], expected: dict | None = None) -> list[dict]:
    """Each job's record (see guard_runs); of one that was not run or did not end, code LATE."""
    with tempfile.TemporaryDirectory() as folder:
        if expected:
            (Path(folder) / "expected.json").write_text(json.dumps(expected))
        command = [sys.executable, "-m", "checks.guard_runs", folder, *jobs]
        environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        environment.pop("PYTHONPATH", None)
        with open(Path(folder) / "words", "wb") as words:
            process = subprocess.Popen(command, cwd=tree, stdout=words, stderr=words,
                                       stdin=subprocess.DEVNULL, env=environment)
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        files = [Path(folder) / f"{number}.json" for number in range(len(jobs))]
        return [json.loads(file.read_text()) if file.is_file()
                else {"code": LATE, "seconds": 0.0, "said": "not run, or without an end"}
                for file in files]


def sources(tree: Path) -> str:
    """A digest of every file that scenarios may run."""
    whole = hashlib.sha256()
    for folder in ("checks", "ported", "reference", "."):
        for path in sorted((tree / folder).glob("*.py" if folder == "." else "**/*.[pch]*")):
            if path.suffix in (".py", ".c", ".h") and path.is_file():
                whole.update(path.relative_to(tree).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()[:20]


SCENARIOS = {"steps": scenarios.SCENARIOS, "bench": scenarios_bench.SCENARIOS,
             "bench on cuda": scenarios_gpu.SCENARIOS}


def shown_by(mutant) -> str:
    """Which scenarios look for a mutant's witness."""
    if mutant.area != "bench":
        return "steps"
    return "bench on cuda" if mutant.device == "cuda" else "bench"


@cache
def originals(root: Path = ROOT, of: str = "steps") -> dict[str, dict[str, str]]:
    """The facts of the scenarios of trainer and steps, of the bench, or of the bench on a GPU, in
    the checkout itself; kept in the user's cache, but for those of a GPU, which are its own."""
    path = cache_directory() / "scenarios" / f"{of}-{sources(root)}.json"
    if of != "bench on cuda" and path.is_file():
        return json.loads(path.read_text())
    records = _ran(root, [f"scenario:{name}" for name in SCENARIOS[of]])
    wrong = [r["said"] for r in records if "facts" not in r or "raises" in r["facts"]]
    if wrong:
        raise RuntimeError(f"a scenario fails in the checkout itself: {wrong[0][-500:]}")
    found = dict(zip(SCENARIOS[of], (r["facts"] for r in records), strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_suffix(f".{os.getpid()}")
    making.write_text(json.dumps(found))
    os.replace(making, path)
    return found


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


def judge(mutant, tree: Path, root: Path = ROOT, enough: bool = False) -> dict:
    """How the guards take a mutant whose patch stands in `tree`; `root` is the original. `enough`:
    compare.py ends when it has named the culprit, and once it refuses no other guard is run.

    state: killed-by, survived, timed-out, or equivalent (no witness). `by`: guards that refuse,
    `first` what the first of them said, `ran` seconds by guard, `named` what --bisect named.
    """
    begin, names = time.monotonic(), applicable(mutant)
    expected = originals(root, shown_by(mutant))
    jobs = {name: f"scenario:{name}" for name in expected}
    first = [name for name in names if name in FIRST and enough] or names
    records: dict[str, dict] = {}
    rest = [name for name in names if name not in first]
    for part in (first, rest) if rest else (first,):
        jobs |= {f"guard {name}": f"guard:{name}={GUARDS[name]}" for name in part}
        if enough and "guard compare" in jobs:  # no further than to the culprit
            jobs["guard compare"] += f" {getattr(mutant, 'culprit', '')}"
        records |= dict(zip(jobs, _ran(tree, list(jobs.values()), expected), strict=True))
        jobs = {}
        if any(records[f"guard {name}"]["code"] for name in part):
            break
    names = [name for name in names if f"guard {name}" in records]
    seen = witness(records, expected)
    records = {name: records[f"guard {name}"] for name in names}
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
