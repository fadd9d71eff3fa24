"""Digests of what a judgement of the kill matrix depends on, so that it is kept until that changes.
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from checks import more_checks
from checks.prove import CHECKS, CUDA_CHECKS
from ported.contract import ROOT, without_prose
from ported.parsing import parsed

NOT_THE_PROVER = ("checks/command.py", "checks/witness.py")  # imported by it for other jobs
DEEP = ("checks/more_checks.py",)
NOT_GUARDS = ("mutants", "matrix", "court", "kill_", "witness")  # no guard runs these


def imported(root: Path, first: Iterable[str], apart: tuple[str, ...] = ()) -> list[str]:
    """Python files under `root` that `first` import, directly or not, late imports included."""
    found, todo = set(), list(first)
    while todo:
        name = todo.pop()
        if name in found or name in apart or not (root / name).is_file():
            continue
        found.add(name)
        for node in ast.walk(parsed((root / name).read_text())):
            if isinstance(node, ast.Import):
                words = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                words = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            else:
                continue
            places = [word.replace(".", "/") for word in words]
            todo += [f"{p}{end}" for p in places for end in (".py", "/__init__.py")]
    return sorted(found)


@cache
def prover(root: Path, operation: str, tier: str = "") -> str:
    """A digest of what a proof of an operation is made of: the code that the prover's process
    imports, comments apart, the devices, the operation's meaning. `tier`: one of those that have
    more checks than the fast one."""
    deep = bool(tier)
    digest = hashlib.sha256(json.dumps([CHECKS, CUDA_CHECKS, more_checks.CHECKS if deep else {}]
                                       ).encode())
    devices = [f"ported/device/{name}.py" for name in ("cpu", "emulated", "cuda")]
    own = [f"reference/{kind}/{operation}.py" for kind in ("explicit", "stock")]
    apart = NOT_THE_PROVER if deep else NOT_THE_PROVER + DEEP
    for name in imported(root, ("checks/worker.py", *devices, *own), apart):
        digest.update(ast.unparse(without_prose(parsed((root / name).read_text()))).encode())
    beside = [*(root / "checks").glob("*.c")] if deep else []
    for path in sorted([*(root / "ported" / "device" / "emulation").rglob("*.[ch]*"), *beside]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:24]


@cache
def guards_code(root: Path = ROOT) -> str:
    """A digest of all Python of the checkout's own, on which guards depend."""
    digest = hashlib.sha256()
    for place in ("checks", "ported", "reference"):
        for path in sorted((root / place).rglob("*.py")):
            if not path.name.startswith(NOT_GUARDS):
                digest.update(path.read_bytes())
    for name in ("train.py", "compare.py"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()[:24]
