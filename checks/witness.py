"""Witnesses: an input on which a mutant does something else than the file it was made from.

No verdict of the prover is asked. Original and mutant run side by side, each in a process of its
own, on one plan of launches (witness_plan.py). The first after which an output's bits differ (NaN
equals NaN, -0 equals 0), memory changed outside, or the mutant alone faults, crashes or hangs, is
the witness. Where only the mutant applies (it dropped a need), it is held against float64 from
afar: LOOSE is no bound of honest error. And a mutant that claims to be deterministic is held
against itself.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from checks import cases, leftovers, watched
from checks.cases import Case
from checks.fences import Fenced
from checks.launch import Result, Stage
from checks.witness_plan import BEGIN, Plan, Run
from checks.worker import confirmed, sound
from ported import contract as contracts
from ported import device as devices
from ported import source
from ported.contract import Contract
from ported.device import DeviceError, NotApplicable
from ported.precision import encode
from ported.source import Version

LOOSE = 0.05  # relative L2 distance that no honest kernel comes near: bfloat16 has 2^-8 an element
THEN = 30  # launches after those that hints give
BUDGET = 25.0  # seconds of processor time for a chunk of the plan; what is left then is not run
TIMEOUT = 120.0  # seconds for a chunk of the plan
MODE = "the processor's mode: the process rounds another way than before, or loses denormals"
HANG = 10.0  # seconds of processor time for an emulated launch


@cache
def _device(name: str, dtype: str, how: tuple = ()):
    settings = dict(how)
    if set(settings) - {"threads"} and name == "cpu":
        return watched.Watched(**settings)
    if name == "cpu":
        settings.setdefault("threads", 1)
    if name == "emulated":
        settings["limit"] = HANG
    return devices.open(name, precision=dtype, **settings)


@lru_cache(maxsize=256)
def _inputs(case: Case) -> dict:
    return cases.draw(case, contracts.of(case.contract)).inputs


def _given(run: Run) -> dict:
    """The inputs of a launch."""
    inputs = _inputs(run.case)
    for name, value in run.sets:
        inputs = {**inputs, name: np.full_like(inputs[name], value) if isinstance(
            inputs[name], np.ndarray) else value}
    if run.times:
        name, factor = run.times
        given = inputs[name]
        return {**inputs, name: (given * factor).astype(given.dtype) if isinstance(
            given, np.ndarray) else given * factor}
    if run.plant is None:
        return inputs
    name, value, where = run.plant
    changed = np.array(inputs[name])
    changed.flat[min(int(where * changed.size), changed.size - 1)] = value
    return {**inputs, name: changed}


def _shifts(run: Run, names: list[str]) -> dict[str, int]:
    """Elements by which each buffer lies behind an aligned place."""
    if isinstance(run.shift, str):
        return {run.shift: 1}
    if run.shift >= 0:
        return dict.fromkeys(names, run.shift)
    random = np.random.default_rng(-run.shift)
    return {name: int(random.integers(0, 16)) for name in names}


def _fenced(stage: Stage, inputs: dict, at_end: bool) -> Result:
    """A launch on buffers that end, or begin, at a page that may not be touched."""
    kept = {n: Fenced(stage.counts[n] * stage.width[n], at_end) for n in stage.counts}
    places = {name: fenced.address for name, fenced in kept.items()}
    for tensor in stage.contract.tensors:
        if tensor.access != "out":
            given = inputs.get(tensor.name, np.zeros(stage.counts[tensor.name], np.float32))
            stage.device.write(places[tensor.name], encode(given, stage.dtypes[tensor.name]))
    consts = {n: inputs[n] for n in stage.contract.consts if n in inputs}
    stage.kernel.bind(places, consts)()
    return Result({t.name: stage.device.read(places[t.name], stage.shapes[t.name], "float32")
                   for t in stage.contract.outputs})


def _starts(case: Case, contract: Contract) -> dict[str, np.ndarray]:
    """Numbers that stand in every Sum output before the launch."""
    random = np.random.default_rng([case.seed, 29])
    return {t.name: cases.stored(case, t, random.standard_normal(t.shape(case.sizes)))
            for t in contract.outputs if t.access == "sum"}


class _Tracer:
    """Launches one version as the plan says, and says what was found."""

    def __init__(self, version: Version, original: Version, contract: Contract, device):
        self.version, self.original = version, original
        self.contract, self.device = contract, device
        self.stages: dict[tuple, Stage] = {}

    def launch(self, run: Run) -> Result:
        device = self.device
        if run.device:
            device = _device(device.name, device.precision.name, tuple(run.device.items()))
        key = (run.case.axes, *run.parameters.items(), *run.device.items())
        if key not in self.stages:
            self.stages[key] = Stage(device, self.version, self.contract, run.case.sizes,
                                     run.parameters)
        stage = self.stages[key]
        if run.fence:
            return _fenced(stage, _given(run), run.fence == "end")
        given = _given(run)
        before = leftovers.nearly(given, self.contract) if run.after else None
        return stage.run(given, shifts=_shifts(run, list(stage.shapes)), before=before,
                         starts=_starts(run.case, self.contract) if run.starts else None,
                         **run.settings)

    def trace(self, run: Run, keep: str | None) -> dict:
        """What one launch left: digests of outputs, memory that changed, a fault."""
        values = {**run.case.sizes, **run.parameters, **self.device.values}
        if self.version.unmet_needs(values):
            return {"absent": True}
        try:
            result = self.launch(run)
        except NotApplicable:
            return {"absent": True}
        except DeviceError as error:
            if "does not compile" in str(error):
                raise
            return {"fault": str(error)}
        if keep:
            np.savez(keep, **result.outputs)
        found = {"outputs": {n: _digest(a) for n, a in result.outputs.items()},
                 "changed": [f"{name}: {message}" for _, name, message in result.faults]}
        if self.original.unmet_needs(values) or _stranger(run, self.original):
            found["far"] = self._far(run, result)
        return found

    def _far(self, run: Run, result: Result) -> dict[str, float]:
        """Relative distance of every output from float64, where there is no original to ask."""
        with np.errstate(all="ignore"):
            truth = cases.explicit(self.contract, _given(run))
        far = {}
        for name, value in result.outputs.items():
            right = truth[name].astype(np.float64)
            if not np.array_equal(np.isnan(right), np.isnan(value)):
                far[name] = float("inf")
                continue
            both = np.isfinite(right) & np.isfinite(value)
            scale = np.linalg.norm(right[both]) or 1.0
            far[name] = float(np.linalg.norm((value - right)[both]) / scale)
        return far


def _stranger(run: Run, original: Version) -> bool:
    """A configuration that the original does not have."""
    return dict(run.parameters) not in original.configurations()


def _digest(array: np.ndarray) -> str:
    array = np.where(np.isnan(array), np.float32(np.nan), array + np.float32(0))
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def trace(version: Version, job: dict, say) -> dict:
    """In the worker's process: the launches `first` to `last` of the plan for the files `original`
    and `mutant`, made with `version`, which is one of the two; `keep`: where the outputs of the
    last one are stored."""
    wanted = job["trace"]
    pair = [source.read(Path(wanted[side]), version.operation, version.direction)
            for side in ("original", "mutant")]
    contract = contracts.of(version.contract_name)
    device = _device(job["device"], job["dtype"])
    (plan, hinted), found, lost = Plan(*pair, contract, device).runs(wanted["hints"]), [], False
    end = time.process_time() + wanted.get("seconds", BUDGET)
    tracer = _Tracer(version, pair[0], contract, device)
    for run in plan[wanted["first"]:wanted["last"]]:
        say(f"witness {run}")
        found.append(tracer.trace(run, wanted.get("keep")))
        lost = device.name == "cuda" and "fault" in found[-1]
        if lost or not sound():
            found[-1].setdefault("changed", []).extend([] if lost else [MODE])
            lost = True
            break
        if time.process_time() > end:
            break
    return {"verdict": "traced", "traces": found, "plan": [str(run) for run in plan],
            "hinted": hinted,
            "twins": [run.twin for run in plan], "claims": list(pair[1].claims),
            "comparable": _comparable(plan, pair[0]), **({"lost": True} if lost else {})}


def _comparable(plan: list[Run], original: Version) -> list[bool]:
    """Whether the original's bits are the same in every order of threads there. What is compiled
    to look at accesses may round otherwise: there only a race counts."""
    same = "deterministic" in original.claims
    return [not run.device or same and "races" not in run.device for run in plan]


def patient(seconds: float) -> float:
    """A time limit on a machine that has other work to do: longer by what each process gets."""
    return seconds * max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


class Search:
    """Looks for witnesses; `clean` and `dirty` are workers of a right and of the patched tree.
    `store` keeps what originals gave, by content."""

    def __init__(self, clean, dirty, store: Path):
        self.clean, self.dirty, self.store = clean, dirty, store

    def find(self, original: Path, mutant: Path, job: dict, hints: Iterable[Mapping] = ()) -> str:
        """One line about the first difference; empty where there is none. `hints`: see Plan.runs.
        Raises ValueError with the message where one of the two cannot be built."""
        first, seen, sizes = 0, [], [BEGIN]
        while sizes:  # both sides are compared after so many launches
            size = sizes.pop(0)
            span = {"original": str(original), "mutant": str(mutant), "first": first,
                    "last": first + size, "hints": [*hints]}
            theirs = confirmed(lambda job: self.dirty.prove(job, patient(TIMEOUT)),
                               {**job, "path": str(mutant), "trace": span})
            if theirs["verdict"] == "error":
                raise ValueError(theirs["faults"][0]["message"])
            if theirs["verdict"] != "traced":
                return f"{theirs['verdict']}: {theirs['faults'][0]['message']}"
            span["last"], span["seconds"] = first + len(theirs["traces"]), 1e9
            ours = self._original({**job, "path": str(original), "trace": span}, theirs["plan"])
            for number, (a, b) in enumerate(zip(ours["traces"], theirs["traces"], strict=False)):
                seen.append(b)
                found = self._compare(first + number, a, b, theirs, seen)
                if found:
                    return self._told(found, first + number, {**job, "trace": span}, theirs)
            if not first:
                sizes = [*([theirs["hinted"]] if theirs["hinted"] else []), THEN, 10**6]
            first += size
            if first > span["last"] or first >= len(theirs["plan"]):
                break
        return ""

    def _original(self, job: dict, plan: list[str]) -> dict:
        """What the original leaves, from the store where it ran before."""
        path = Path(job["path"])
        version = source.read(path, job["operation"], job["direction"])
        span = plan[job["trace"]["first"]:job["trace"]["last"]]
        key = json.dumps([version.digest, job["device"], job["dtype"], span, code()])
        kept = self.store / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
        if kept.is_file():
            return json.loads(kept.read_text())
        found = self.clean.prove(job, patient(3 * TIMEOUT))
        if found["verdict"] != "traced":
            raise ValueError(f"the original itself: {found['faults'][0]['message']}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found))
        return found

    def _compare(self, number: int, a: dict, b: dict, theirs: dict, seen: list[dict]) -> str:
        """What differs at one launch; empty where nothing does, `outputs` where they do."""
        if b.get("absent") or "fault" in a:
            return ""
        if "fault" in b:
            return f"fault: {b['fault'].splitlines()[0]}"
        if b["changed"] and not a.get("changed"):
            return f"memory: {b['changed'][0]}"
        far = {name: value for name, value in b.get("far", {}).items() if not value <= LOOSE}
        if far:
            name, value = next(iter(far.items()))
            return f"{name} is {value:.3g} of its size from float64"
        twin = theirs["twins"][number]
        promised = "deterministic" in theirs["claims"] and twin is not None and twin < len(seen)
        if promised and seen[twin].get("outputs", b["outputs"]) != b["outputs"]:
            return f"claims to be deterministic, and differs from {theirs['plan'][twin]}"
        if not a.get("absent") and a["outputs"] != b["outputs"] and theirs["comparable"][number]:
            return "outputs"
        return ""

    def _told(self, found: str, number: int, job: dict, theirs: dict) -> str:
        """The witness as one line; of outputs, the first element that differs."""
        if found == "outputs":
            with tempfile.TemporaryDirectory() as folder:
                sides = [self._kept(worker, side, number, job, Path(folder))
                         for worker, side in ((self.clean, "original"), (self.dirty, "mutant"))]
            found = _first_difference(*sides)
        return f"{theirs['plan'][number]}: {found}"

    def _kept(self, worker, side: str, number: int, job: dict, folder: Path) -> dict:
        """The outputs of one launch, alone."""
        file = folder / f"{side}.npz"
        span = {**job["trace"], "first": number, "last": number + 1, "keep": str(file)}
        worker.prove({**job, "path": job["trace"][side], "trace": span},
                     patient(TIMEOUT))
        if not file.is_file():
            return {}
        with np.load(file) as arrays:
            return {name: arrays[name] for name in arrays.files}


def _first_difference(right: Mapping, wrong: Mapping) -> str:
    for name in right:
        if name not in wrong:
            return "a fault when it is launched alone"
        differs = (right[name] != wrong[name]) & ~(np.isnan(right[name]) & np.isnan(wrong[name]))
        if differs.any():
            at = tuple(int(i) for i in np.argwhere(differs)[0])
            return (f"{name}{list(at)} is {wrong[name][at]:.9g} instead of {right[name][at]:.9g}; "
                    f"{int(differs.sum())} of {differs.size} differ")
    return "outputs differ after the launches before it, and not when it is launched alone"


@cache
def code() -> str:
    """A digest of what decides on witnesses, for who keeps results."""
    names = ("witness", "witness_plan", "fences", "cases", "launch", "shapes", "tiers",
             "pipelines", "processors", "watched")
    here = Path(__file__).resolve().parent
    files = [*(here / f"{name}.py" for name in names), here / "late.c", here / "races.c"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


__all__ = ["Search", "code", "trace"]
