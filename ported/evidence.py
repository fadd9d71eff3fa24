"""Reads, writes and chooses by evidence; refuses what is not proved.

One JSON file a version, `golden/evidence/<cpu-x86_64|emulated/bfloat16|sm_90/float32|...>/
<version>.json`, holds its proof (each check with its version, examples run and worst error over
its bound) and its timings. A proof counts on its own device and in its own precision. A user's own
lie in the user's cache directory under the same names and win, but neither over a committed refusal
nor, once stale, over a committed proof.

    proved   the file's meaning is today's and every check of the fast tier is in it
    stale    the meaning is today's, but a check of the prover has changed since
    void     the version, its contract or its flags have changed since
    refused  the prover found a fault, and nothing but its check has changed since
    none     no file
"""

import ast
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path

from ported import parsing, source
from ported.contract import ROOT, Contract
from ported.device.cpu import FLAGS, cache_directory
from ported.precision import PRECISIONS
from ported.source import Version


class EvidenceError(ValueError):
    """A kernel that is not proved, a lock that cannot be kept, an evidence file that is broken."""


@dataclass(frozen=True)
class Choice:
    """A version with the values of its tuned parameters."""

    version: Version
    parameters: Mapping[str, int] = field(default_factory=dict)


def shape_key(contract_name: str, axes: Mapping[str, int]) -> str:
    """`linear_forward C=128 N=512 O=384`: one operation at one shape."""
    return " ".join([contract_name, *(f"{axis}={axes[axis]}" for axis in sorted(axes))])


def meaning(version: Version, contract: Contract) -> str:
    """The key of a proof: source, flags, dtypes and contract, without comments and layout."""
    flags = " ".join(FLAGS) if version.language == "c" else f"{PRECISIONS}"
    return hashlib.sha256("\n".join([version.digest, contract.digest, flags]).encode()).hexdigest()


@cache
def current_checks(language: str = "c", root: Path = ROOT) -> dict[str, int]:
    """The prover's checks of a language's versions, read from checks/prove.py as syntax."""
    path, found = root / "checks" / "prove.py", {}
    wanted = ("CHECKS",) if language == "c" else ("CHECKS", "CUDA_CHECKS")
    for node in parsing.parsed(path.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in wanted:
            found |= ast.literal_eval(node.value)
    if not found:
        raise EvidenceError(f"{path}: found no CHECKS = {{name: version}}")
    return found


def folders(device_folder: str) -> tuple[Path, Path]:
    """Where evidence lies: the user's own, which wins, then the committed."""
    return (cache_directory() / "evidence" / device_folder,
            ROOT / "golden" / "evidence" / device_folder)


def load(version: Version, device_folder: str, key: str) -> dict | None:
    """The evidence of a version: of all files with today's meaning the one that wins (see the head
    of this file), with every timing; where there is none, the first file."""
    found = [record for folder in folders(device_folder)
             if (record := _read(folder / f"{version.name}.json")) is not None]
    current = [record for record in found if record.get("meaning") == key]
    if not current:
        return found[0] if found else None
    late = {"stale": 1, "none": 2}
    proof = min(current, key=lambda r: (r.get("verdict") != "refused",
                                        late.get(judge(r, key, version.language), 0)))
    return proof | {"timings": [t for record in current for t in record.get("timings", [])]}


def _read(path: Path) -> dict | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return _parsed(path, state.st_mtime_ns, state.st_size, state.st_ino)


@lru_cache(1024)
def _parsed(path: Path, *state: int) -> dict:
    """A file of evidence, parsed once in each state; nobody may change what it gives."""
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise EvidenceError(f"{path}: broken at line {error.lineno}; delete it and run "
                            f"`make verify KERNEL={path.stem}`") from None


def committed(version_name: str, device_folder: str) -> dict | None:
    """The evidence in the tree, whatever the user measured besides."""
    return _read(folders(device_folder)[1] / f"{version_name}.json")


def judge(record: Mapping, key: str, language: str = "c") -> str:
    """What a record says of a version of a language whose meaning today is `key`."""
    if "checks" not in record:
        return "none"
    if record.get("meaning") != key:
        return "void"
    if record.get("verdict") != "proved":  # a fault stays one, whatever became of its check
        return "refused"
    judged_by = {name: check["version"] for name, check in record["checks"].items()}
    return "proved" if current_checks(language).items() <= judged_by.items() else "stale"


def status(version: Version, contract: Contract, device_folder: str) -> str:
    """proved, stale, void, refused or none (see the head of this file)."""
    record = load(version, device_folder, key := meaning(version, contract))
    return "none" if record is None else judge(record, key, version.language)


def home(version: Version, device) -> str:
    """The folder that holds a version's evidence for a device. In tf32 a version that rounds no
    factor does what it does in float32, and is proved there."""
    if device.precision.name == "tf32" and version.language == "cu" and (
            version.products == "float32"):
        return device.evidence.replace("tf32", "float32")
    return device.evidence


def write(version: Version, contract: Contract, device_folder: str, proof: Mapping,
          committed: bool = False) -> Path:
    """Stores a proof; timings of the same meaning stay. `committed` writes into the tree."""
    path = folders(device_folder)[1 if committed else 0] / f"{version.name}.json"
    key, old = meaning(version, contract), _read(path) or {}
    timings = old.get("timings", []) if old.get("meaning") == key else []
    store(path, {"version": version.name, "meaning": key, **proof, "timings": timings})
    return path


def write_timings(version: Version, contract: Contract, device_folder: str, timings: Iterable,
                  committed: bool = False) -> Path:
    """Stores timings ({device, axes, parameters, threads, seconds}); one a device and shape."""
    path = folders(device_folder)[1 if committed else 0] / f"{version.name}.json"
    key, record = meaning(version, contract), _read(path) or {}
    if record.get("meaning") != key:
        record = {"version": version.name, "meaning": key}
    merged = {(t["device"], t["threads"], shape_key("", t["axes"])): t
              for t in [*record.get("timings", []), *timings]}
    store(path, {**record, "timings": [merged[place] for place in sorted(merged)]})
    return path


def store(path: Path, record: Mapping) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write(json.dumps(record, indent=1) + "\n")
        name = file.name
    os.chmod(name, 0o644)
    os.replace(name, path)


def _distance(a: Mapping[str, int], b: Mapping[str, int]) -> float:
    return sum(abs(math.log(a[axis] / b[axis])) for axis in a) if a.keys() == b.keys() else math.inf


def _quickest(candidates: list[Version], contract: Contract, axes: Mapping[str, int],
              device) -> tuple[str, dict] | None:
    """(version, timing): the least at the nearest measured shape, on this processor first.

    Versions are compared only where they were measured together; the measurement that holds the
    most candidates wins over a nearer one.
    """
    tables: dict[tuple, dict[str, dict]] = {}
    for version in candidates:
        key = meaning(version, contract)
        record = load(version, home(version, device), key) or {}
        for timing in record.get("timings", []) if record.get("meaning") == key else []:
            place = (timing["device"] != device.processor, _distance(axes, timing["axes"]),
                     abs(timing["threads"] - device.threads), timing["device"])
            tables.setdefault(place, {}).setdefault(version.name, timing)
    if not tables:
        return None
    place = min(tables, key=lambda place: (place[0], -len(tables[place]), *place[1:]))
    return min(tables[place].items(), key=lambda item: item[1]["seconds"])


def fastest(candidates: list[Version], contract: Contract, axes: Mapping[str, int],
            device) -> Choice:
    """The candidate of the least timing (see `_quickest`). Without any timing the highest number
    wins, since a ladder climbs."""
    found = _quickest(candidates, contract, axes, device)
    if not found:
        best = max(candidates, key=lambda version: version.number)
        return Choice(best, best.configurations()[0])
    named = {version.name: version for version in candidates}
    return Choice(named[found[0]], found[1].get("parameters", {}))


def seconds(candidates: list[Version], contract: Contract, axes: Mapping[str, int],
            device) -> float | None:
    """What the fastest candidate takes at `axes`, by its timing on this very processor; a timing of
    another shape counts in proportion to the product of the axes. None without one."""
    _, timing = _quickest(candidates, contract, axes, device) or ("", {"device": ""})
    if timing["device"] != device.processor:
        return None
    return timing["seconds"] * math.prod(axes.values()) / math.prod(timing["axes"].values())


def read_ahead(language: str) -> None:
    """Reads what needs no device: the versions, and what their proofs are keyed by."""
    with source.held():
        _ = [version.digest for version in _versions(language).values()]


def _versions(language: str) -> dict[str, Version]:
    """The tree's versions, read once a process."""
    return _read_once(source.read_all, language)


@cache
def _read_once(read_all, language: str) -> dict[str, Version]:
    return read_all(language=language)


class Shelf:
    """The versions of some contracts that a run on `device` may take, with what is known of them.

    `use` names versions to take by hand: then no other of their operation is on the shelf.
    """

    def __init__(self, contracts: Mapping[str, Contract], device, use: Iterable[str] = ()):
        self.contracts, self.device = contracts, device
        self.versions, self._states = _versions(device.language), {}
        unknown = [name for name in use if name not in self.versions]
        if unknown:
            raise EvidenceError(f"no version {', '.join(unknown)}; known versions of "
                                f"{', '.join(sorted(contracts))} lie under "
                                f"{source.folder(device.language)}")
        self.forced = {self.versions[name].contract_name: self.versions[name] for name in use}

    def _state(self, version: Version) -> str:
        name, of = version.name, self.contracts[version.contract_name]
        if name not in self._states:
            self._states[name] = status(version, of, home(version, self.device))
        return self._states[name]

    def _pool(self, name: str) -> list[Version]:
        roles = self.contracts[name].roles
        return [self.forced[name]] if name in self.forced else [
            v for v in self.versions.values() if v.contract_name == name
            and "deterministic" in v.claims and v.supports(self.device.precision, roles)]

    def _applies(self, version: Version, axes: Mapping[str, int]) -> bool:
        integers = {**axes, **self.device.values}
        return not version.unmet_needs(integers | version.configurations()[0])

    def proved(self, name: str, axes: Mapping[str, int]) -> list[Version]:
        """Versions of the contract `name` that are proved and apply at `axes`."""
        return [v for v in self._pool(name)
                if self._applies(v, axes) and self._state(v) == "proved"]

    def why_none(self, name: str, axes: Mapping[str, int]) -> str:
        """The versions of the contract by number, under what keeps them from `proved`."""
        found: dict[str, list[str]] = {}
        for version in self._pool(name):
            word = self._state(version) if self._applies(version, axes) else "does not apply"
            found.setdefault(word, []).append(f"{version.number:02d}")
        return ", ".join(f"{name}_{' '.join(n)} {w}" for w, n in found.items()) or "no version"

    def refusal(self, faults: Mapping[tuple[str, str], list[str]]) -> EvidenceError:
        """The error for what nothing can do: (contract name, why) -> shape keys."""
        device = self.device
        which = "--device cpu" if device.name == "cpu" else (
            f"--device {device.name} --dtype {device.precision.name}")
        if set(self._states.values()) == {"none"} and len(faults) > 1:
            return EvidenceError(
                f"found no evidence of {device.evidence}: before anything trains, kernels are "
                "proved on each architecture in each precision.\n"
                f"`python -m checks.prove --all {which} --jobs 8` does that, once")
        lines = [f"{keys[0]}{f' and {len(keys) - 1} shapes more' if keys[1:] else ''}: {why}"
                 for (_, why), keys in faults.items()]
        return EvidenceError(
            f"no proved kernel of {device.evidence} for\n  " + "\n  ".join(lines)
            + "\n(none: never proved here; void: it has changed since; stale: a check has changed "
            "since; refused: found to be wrong)"
            f"\nprove with `make verify KERNEL=NAME ARGS=\"{which}\"`, or `make test-all`")


def choose(wanted: Mapping[str, tuple], contracts: Mapping[str, Contract], device,
           use: Iterable[str] = ()) -> dict[str, Choice]:
    """The fastest proved version for each `shape_key` -> (contract name, axes, consts) in `wanted`.

    Only versions that claim to be deterministic are chosen, so that a run repeats bit for bit;
    `use` names versions to take by hand, any that are proved. Raises EvidenceError that lists every
    operation without a proved version, every forced version that is not proved or not known, and
    the command to run.
    """
    shelf = Shelf(contracts, device, use)
    chosen: dict[str, Choice] = {}
    faults: dict[tuple[str, str], list[str]] = {}
    for key, (name, axes, *_) in wanted.items():
        if proved := shelf.proved(name, axes):
            chosen[key] = fastest(proved, contracts[name], axes, device)
        else:
            faults.setdefault((name, shelf.why_none(name, axes)), []).append(key)
    if faults:
        raise shelf.refusal(faults)
    return chosen


def lock(chosen: Mapping[str, Choice], contracts: Mapping[str, Contract], device) -> dict:
    """What was chosen, for log and checkpoint: bit for bit is promised under the same lock."""
    kernels = {key: {"version": choice.version.name, "parameters": dict(choice.parameters),
                     "meaning": meaning(choice.version, contracts[choice.version.contract_name])}
               for key, choice in sorted(chosen.items())}
    return {"identity": dict(device.identity), "kernels": kernels}


def obey(lock: Mapping, contracts: Mapping[str, Contract], device) -> dict[str, Choice]:
    """The choices of a lock; EvidenceError where a version is gone, changed or not proved."""
    versions = _versions(device.language)
    chosen, faults = {}, []
    for key, entry in lock["kernels"].items():
        version = versions.get(entry["version"])
        contract = contracts.get(key.partition(" ")[0])
        if version is None or contract is None:
            faults.append(f"{entry['version']}: no longer in the tree")
        elif meaning(version, contract) != entry["meaning"]:
            faults.append(f"{entry['version']}: changed since the checkpoint")
        elif (state := status(version, contract, home(version, device))) != "proved":
            faults.append(f"{entry['version']}: not proved now, but {state}")
        else:
            chosen[key] = Choice(version, entry["parameters"])
    if faults:
        raise EvidenceError("the checkpoint's kernel lock cannot be kept:\n  "
                            + "\n  ".join(dict.fromkeys(faults))
                            + "\ncheck out the commit in the log's first record, or resume with "
                            "--relock to choose kernels anew (no longer bit for bit)")
    return chosen
