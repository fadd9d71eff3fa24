"""Which versions are meant: by name, by glob, or by what changed since the committed evidence."""

import difflib
import fnmatch
import random
import re
from pathlib import Path

from ported import contract as contracts
from ported import evidence, source
from ported.contract import DIRECTIONS, ROOT, Contract
from ported.precision import PRECISIONS
from ported.source import Version

PLACES = {"c": ("ported/c_src", ("c",)), "cu": ("cuda_src", ("cu", "py"))}
_NAME = re.compile(rf"({'|'.join(DIRECTIONS)})_(\d\d)_\w+")


class NoSuchKernel(ValueError):
    """A name or glob that matches no version; the message lists near names."""


def paths(language: str = "c", root: Path = ROOT) -> dict[str, Path]:
    """Every version's file by the version's name; the path says the name, nothing is read."""
    folder, suffixes = PLACES[language]
    found = {}
    for path in sorted((root / folder).glob("*/*.*")):
        shape = _NAME.fullmatch(path.stem)
        if shape and path.suffix[1:] in suffixes:
            found[f"{path.parent.name}_{shape[1]}_{shape[2]}"] = path
    return found


def matching(pattern: str, language: str = "c") -> list[str]:
    """Names that `pattern` (a name or glob, several parted by commas) matches."""
    known, found = paths(language), {}
    for part in pattern.split(","):
        names = fnmatch.filter(known, part.strip())
        if not names:
            near = (difflib.get_close_matches(part, known, 5, 0.4)
                    or [name for name in known if part.strip("*?_") in name][:5] or list(known)[:5])
            raise NoSuchKernel(f"no kernel matches '{part}'; near it: {', '.join(near)} "
                               f"({len(known)} versions lie under {PLACES[language][0]})")
        found.update(dict.fromkeys(names))
    return list(found)


def read(name: str, language: str = "c") -> tuple[Version, Contract]:
    """The version called `name` and its contract."""
    version = source.read(paths(language)[name])
    return version, contracts.of(version.contract_name)


def precisions_of(version: Version, contract: Contract, language: str) -> list[str]:
    """The precisions in which a version is proved: those that its dtype lines allow. In TF32 only
    what rounds products so, or leaves that to a library; all else does what it does in float32."""
    if language == "c":
        return ["float32"]
    return [name for name, precision in PRECISIONS.items()
            if version.supports(precision, contract.roles)
            and (name != "tf32" or version.products == "tf32" or version.language == "py")]


def runs_on(version: Version, contract: Contract, device) -> str:
    """Why a version is not proved on a device in its precision; empty where it is."""
    if version.language == "py" and device.name != "cuda":
        return "a vendor's library, which runs on cuda only"
    if device.precision.name not in precisions_of(version, contract, device.language):
        return f"its dtype lines do not allow {device.precision.name}, or it is proved in another"
    return ""


def state(version: Version, contract: Contract, device, committed: bool = True) -> str:
    """What the evidence says of a version: as evidence.status, or "not here"."""
    if runs_on(version, contract, device):
        return "not here"
    if not committed:
        return evidence.status(version, contract, device.evidence)
    record = evidence.committed(version.name, device.evidence)
    key = evidence.meaning(version, contract)
    return "none" if record is None else evidence.judge(record, key, version.language)


def changed(device, seed: int, sample: int) -> tuple[list[str], list[str], dict[str, str]]:
    """(to prove, as their committed evidence does not hold; a sample of the rest; all states)."""
    states = {name: state(*read(name, device.language), device) for name in paths(device.language)}
    wanted = [name for name, state in states.items() if state not in ("proved", "not here")]
    rest = [name for name, state in states.items() if state == "proved"]
    return wanted, random.Random(seed).sample(rest, min(sample, len(rest))), states
