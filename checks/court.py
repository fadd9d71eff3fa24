"""Judges one mutant at a time: witness, proof by the checks, and what follows from the two.

A court has a copy of the checkout of its own, in which it applies patches, and two processes: one
that runs originals (in a copy that nobody patches) and one that runs mutants. What was judged is
kept in the user's cache, addressed by everything that it depends on, so that a judgement is
repeated only where something changed: the patched file, the original, or the prover.
"""

import hashlib
import json
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from checks import court_large, court_verdict, huge, more_checks, mutants, refusals, witness
from checks.court_keys import guards_code, prover
from checks.court_verdict import summary, verdict
from checks.mutants import Mutant, NotApplied
from checks.trial import ANY
from checks.worker import Worker, confirmed
from ported import contract as contracts
from ported import source
from ported.contract import ROOT
from ported.device import cpu
from ported.precision import PRECISIONS
from ported.source import SourceError

ARTIFACT = "artifact"
# Most of a proof's time: asked while at most so many kinds of checks refuse (Ledger.spare).
COSTLY = {ARTIFACT: 0, "size": 0, "sanitizers": 1}
TIMEOUT = {"fast": 240.0, "more": 480.0, "deep": 1200.0}  # seconds; the fast tier is to take 30


class Store:
    """Results by key, as files that a stopped run leaves whole. `thorough`: of what is no kernel,
    all guards are asked also where compare.py refuses it."""

    def __init__(self, folder: Path | None = None, anew: bool = False, thorough: bool = False):
        self.folder = folder or cpu.cache_directory() / "matrix"
        self.anew, self.thorough, self.reused = anew, thorough, 0

    def path(self, *key) -> Path:
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        return self.folder / f"{digest}.json"

    def get(self, path: Path, counts: bool = True) -> dict | None:
        if self.anew or not path.is_file():
            return None
        self.reused += counts
        return json.loads(path.read_text())

    def put(self, path: Path, found: Mapping) -> None:
        """Keeps a result; not one that another day may end otherwise."""
        if found.get("state", found.get("verdict")) in ("timed-out", "error"):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{time.monotonic_ns()}")
        part.write_text(json.dumps(found))
        part.replace(path)


def row_of(mutant: Mutant, dtype: str = "") -> dict:
    """What is known of a mutant before it is judged."""
    return {"name": mutant.label, "family": mutant.family, "bug": mutant.bug, "kind": mutant.kind,
            "file": mutant.file, "operation": mutant.operation, "direction": mutant.direction,
            "device": mutant.place, "dtype": dtype, "why": mutant.why, "state": "", "by": [],
            "tier": "fast", "first": "", "witness": "", "seconds": 0.0, "ran": {}}


class Court:
    """One judge. A context: `tree` and `clean` are copies of the checkout, `scratch` a cache for
    what is compiled of mutants."""

    def __init__(self, tree: Path, clean: Path, scratch: Path, store: Store, device: str = ""):
        self.tree, self.clean_tree, self.store, self.device = tree, clean, store, device
        self.scratch, self.thorough = scratch, store.thorough
        waiting = {"OMP_WAIT_POLICY": "passive"}  # judges share the cores: who waits must not spin
        self.dirty = Worker(root=tree, environment={**waiting, "XDG_CACHE_HOME": str(scratch)})
        self.clean = Worker(root=clean, environment=waiting)
        self.search = witness.Search(self.clean, self.dirty, store.folder / "originals")
        self.runner = None  # of guards, once one is asked

    def __enter__(self) -> "Court":
        return self

    def __exit__(self, *_) -> None:
        self.dirty.close()
        self.clean.close()
        if self.runner is not None:
            self.runner.close()

    def tidy(self) -> None:
        """Removes what was compiled of the last mutant; nobody asks for it again."""
        for path in self.scratch.glob("trivium/*/*"):
            if path.is_file() and not path.is_symlink() and not path.name.startswith("runtime-"):
                path.unlink()

    def judge(self, mutant: Mutant) -> dict:
        """The row of one mutant."""
        if mutant.place == "cuda" and self.device != "cuda":
            return row_of(mutant, mutant.dtype) | {"state": "not run here"}
        try:
            if not mutant.kernel:
                return self._by_guards(mutant)
            with mutants.applied(mutant, self.tree) as path:
                return self._by_checks(mutant, path)
        except NotApplied as error:
            return row_of(mutant) | {"state": "not-applied", "first": str(error)}
        except Exception as error:  # one that cannot be judged does not end the others
            said = f"{type(error).__name__}: {error}"
            return row_of(mutant) | {"state": "error", "first": self._plain(said)}

    def _by_guards(self, mutant: Mutant) -> dict:
        """Of the trainer and the bench, in a copy that is used once: guards run whole programs."""
        from checks import guards

        path = self.tree / mutant.file
        text = path.read_text() if path.is_file() else ""
        kept = self.store.path("guards", mutant.label, mutant.anchor, mutant.becomes, text,
                               mutant.culprit, guards_code(self.clean_tree), self.thorough)
        found = self.store.get(kept)
        if found is None:
            self.runner = self.runner or guards.Runner(self.clean_tree)
            with mutants.throw_away(self.clean_tree) as tree, mutants.applied(mutant, tree):
                found = guards.judge(mutant, tree, self.runner, enough=not self.thorough)
            self.store.put(kept, found)
        if found["state"] == "equivalent" and found["by"]:
            found["state"] = "refused without a witness"
        elif found["state"] == "equivalent" and mutant.kind == "mutant":
            found["state"] = "no witness"
        elif found["state"] == "survived" and mutant.kind == "honest":
            found["state"] = "equivalent"  # other roundings are other bits
        # Of others it is not known whether they would have refused it, too.
        found["stopped"] = not self.thorough and found["by"] == ["compare"]
        said = {key: self._plain(found[key]) for key in ("first", "witness")}
        return row_of(mutant) | found | said

    def _by_checks(self, mutant: Mutant, path: Path) -> dict:
        original = self.clean_tree / mutant.judged
        try:
            versions = [source.read(p, mutant.operation, mutant.direction)
                        for p in (original, path)]
        except SourceError as error:
            return row_of(mutant) | {"state": "not-compiled", "first": self._plain(str(error))}
        dtype = mutant.dtype or dtypes_of(versions[0])[0]
        row, digests = row_of(mutant, dtype), [version.digest for version in versions]
        if digests[0] == digests[1]:
            return row | {"state": "error", "first": "the patch changes nothing that is compiled"}
        job = {"operation": mutant.operation, "direction": mutant.direction, "dtype": dtype,
               "device": row["device"], "path": str(path)}
        wrong = mutant.kind == "mutant"  # its compiled file is asked with the deep tier
        found = self._proof({**job, "spare": {**COSTLY, ARTIFACT: -1}} if wrong else job, digests)
        deep = None
        hints = found.pop("hints", [])
        if found["verdict"] == "error":
            broken = "does not compile" in found["first"]
            return row | found | {"state": "not-compiled" if broken else "error"}
        if wrong and found["verdict"] == "proved":
            deep = self._deep(job, digests)
            hints = deep.pop("hints", [])
        if mutant.kind != "honest":
            seen = self._seen(original, path, job, digests, hints, deep)
            row |= seen | {"total": round(found["seconds"] + seen["total"], 1)}
            if error := row.pop("error"):
                return row | found | {"state": "error", "first": f"witness: {error}"}
        row |= found | verdict(found, row["witness"], mutant.kind)
        by = deep and (deep["by"] or deep.get("again", {}).get("by"))
        if row["state"] == "survived" or by:
            row |= self._told_by(deep or self._deep(job, digests), row, mutant)
        return row

    def _told_by(self, deep: dict, row: dict, mutant: Mutant) -> dict:
        """What of the row is the deep tier's, or the compiled file's, which the fast one has."""
        return verdict(deep, row["witness"], mutant.kind) | {
            "tier": "fast" if deep["by"] == [ARTIFACT] else "deep", "stopped": deep["stopped"],
            "ran": row["ran"] | deep["ran"], "total": round(row["total"] + deep["seconds"], 1)}

    def _deep(self, job: dict, digests: list[str]) -> dict:
        """What the deep tier says of a file that the fast one accepts: the checks that it has
        besides and the compiled file, which the fast one has, too; and where they accept it, all of
        it until something refuses (`stopped`)."""
        found = self._proof({**job, "tier": "more"}, digests)
        ran = {name: s for name, s in found["ran"].items()
               if name in more_checks.BY_NAME or name == ARTIFACT}
        seconds, accepted = found["seconds"], found["verdict"] == "proved"
        if accepted:
            found = self._proof({**job, "tier": "deep", "target": ANY}, digests)
            seconds += found["seconds"]
        return {**found, "ran": ran, "seconds": seconds, "stopped": accepted}

    def _seen(self, original: Path, path: Path, job: dict, digests: list[str], hints: list[dict],
              deep: dict | None) -> dict:
        """The witness: of a mutant that the fast tier accepts (`deep`: what the other says) at
        large sizes too, and there first where nothing but the check of sizes refuses it."""
        def plan() -> dict:
            return self._witness(original, path, job, digests, hints)

        def large() -> dict:
            return self._large_witness(original, path, job, digests)
        looks = [plan] if deep is None else [plan, large]
        if deep and deep["by"] == [huge.NAME]:
            looks.reverse()
        found = {"witness": "", "error": "", "total": 0.0}
        for look in looks:
            seen = look()
            found["total"] += seen["seconds"]
            found |= {"witness": seen["line"], "error": seen["error"]}
            found |= {"left": seen["left"]} if "left" in seen else {}
            if seen["line"] or seen["error"]:
                break
        return found

    def _proof(self, job: dict, digests: list[str]) -> dict:
        """What the checks of the job's tier say, in short."""
        asked = {name: job[name] for name in ("tier", "spare") if name in job}
        kept = self.store.path("proof", digests[1], job["device"], job["dtype"], asked, COSTLY,
                               prover(self.clean_tree, job["operation"], job.get("tier", "")))
        found = self.store.get(kept)
        if found is None:
            found = self._proved(job)
            self.store.put(kept, found)
        return found

    def _proved(self, job: dict) -> dict:
        """A proof in short, with `hints`. Where a crash ended it, `again` says which check refused
        the kernel before that, if one did."""
        proof = confirmed(self.prove, job)
        found = self._summary(proof) | {"hints": court_verdict.hints(proof["faults"])}
        if found["verdict"] in ("crashed", "timed-out"):
            found["again"] = self._summary(self.prove(job, target=ANY))
        return found

    def _summary(self, proof: Mapping) -> dict:
        found = summary(proof)
        return found | {"first": self._plain(found["first"])}

    def _witness(self, original: Path, path: Path, job: dict, digests: list[str],
                 hints: list[dict]) -> dict:
        """The witness as one line, or why none could be looked for."""
        kept = self.store.path("witness", digests, job["device"], job["dtype"], witness.code())
        found = self.store.get(kept, counts=False)
        if found is None:
            start, found = time.monotonic(), {"verdict": "", "line": "", "error": ""}
            try:
                found["line"] = self._plain(self.search.find(original, path, job, hints))
            except ValueError as error:
                found |= {"verdict": "error", "error": self._plain(str(error))}
            found["seconds"] = round(time.monotonic() - start, 1)
            self.store.put(kept, found)
        return found

    def _large_witness(self, original: Path, path: Path, job: dict, digests: list[str]) -> dict:
        """The witness at sizes that the plan does not reach, with its seconds; what kept it from
        looking is not for another day."""
        kept = self.store.path("large", digests, job["device"], job["dtype"], court_large.code(),
                               prover(self.clean_tree, job["operation"], "deep"))
        found = self.store.get(kept, counts=False)
        if found is None:
            start = time.monotonic()
            found = court_large.witness(self.tree, original, path, job)
            found |= {"line": self._plain(found["line"]), "error": self._plain(found["error"]),
                      "seconds": round(time.monotonic() - start, 1)}
            if not found["error"] and not found["left"]:
                self.store.put(kept, found)
        return found

    def prove(self, job: dict, **more) -> dict:
        """The proof of a file, with the seconds of each check. The costly ones are spared where
        others refuse: most of a proof's time would be theirs."""
        job = {"spare": COSTLY, **job, "shrink": False, "timed": True, **more}
        seconds = TIMEOUT.get(job.get("tier"), TIMEOUT["fast"])
        return self.dirty.prove(job, witness.patient(seconds))

    def _plain(self, text: str) -> str:
        """A message without this machine's folders."""
        for folder in (self.tree, self.clean_tree, ROOT):
            text = text.replace(f"{folder}/", "")
        return " ".join(re.sub(r"the command: .*", "", text, flags=re.S).split())[:400]

    def reject(self, reject: refusals.Reject) -> dict:
        """The row of a whole-file reject."""
        path = self.tree / reject.path.relative_to(ROOT)
        version = source.read(path, reject.operation, reject.direction)
        kept = self.store.path("reject", version.digest, reject.dtype,
                               prover(self.clean_tree, reject.operation))
        found = self.store.get(kept)
        if found is None:
            job = {"path": str(path), "operation": reject.operation, "device": reject.device,
                   "direction": reject.direction, "dtype": reject.dtype,
                   "spare": {ARTIFACT: 0}}  # many are there for the sanitizers
            found = self._proved(job)
            self.store.put(kept, found)
        found.pop("hints", None)
        found |= verdict(found, f"{found['verdict']}: ", "reject")
        return {"name": f"rejects/{reject.name}", "operation": reject.operation,
                "direction": reject.direction, "device": reject.device, "dtype": reject.dtype,
                "bug": reject.reason, "named": reject.check, **found}

    def empty(self, version: source.Version) -> dict:
        """The row of a kernel that does nothing, in the place of `version`."""
        kept = self.store.path("empty", version.digest,
                               prover(self.clean_tree, version.operation))
        found = self.store.get(kept)
        if found is None:
            with tempfile.TemporaryDirectory() as folder:
                proof = refusals.refuse_empty(self.dirty, version, Path(folder))
            found = summary(proof) | {"state": proof["verdict"], "witness": ""}
            self.store.put(kept, found)
        return {"name": f"empty/{version.name}.{version.language}", **found}

    def honest(self, mutant: Mutant, seeds: list[int]) -> dict:
        """Of an honest variant: how many proofs were made, one a seed, and which refused it."""
        with mutants.applied(mutant, self.tree) as path:
            version = source.read(path, mutant.operation, mutant.direction)
            dtype = mutant.dtype or dtypes_of(version)[0]
            kept = self.store.path("honest", version.digest, dtype, seeds,
                                   prover(self.clean_tree, mutant.operation))
            found = self.store.get(kept)
            if found is None:
                start, refused = time.monotonic(), []
                job = {"path": str(path), "operation": mutant.operation, "dtype": dtype,
                       "direction": mutant.direction, "device": mutant.place, "tier": "seeds"}
                for seed in seeds:
                    proof = self.prove(job, seed=seed)
                    if proof["verdict"] != "proved":
                        said = self._plain(summary(proof)["first"])
                        refused.append(f"seed {seed}: {proof['verdict']}: {said}")
                found = {"proofs": len(seeds), "refused": refused, "by": [], "first": "",
                         "state": "accused" if refused else "proved", "witness": "",
                         "seconds": round(time.monotonic() - start, 1)}
                self.store.put(kept, found)
        return {"name": mutant.label, "bug": mutant.bug, "device": mutant.place, "dtype": dtype,
                **found}


def dtypes_of(version: source.Version) -> list[str]:
    """The precisions that a version's dtype lines allow; SourceError where there is none."""
    roles = contracts.of(version.contract_name).roles
    found = [p.name for p in PRECISIONS.values() if version.supports(p, roles)]
    if not found:
        raise SourceError(f"{version.path}: its dtype lines allow no precision")
    return found
