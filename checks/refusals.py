"""Judges the wrong kernels of checks/rejects: each must be refused, and by the check it names.

    python -m checks.refusals            each until the check it names refuses it
    python -m checks.refusals --matrix   each by all checks; prints what each check alone refuses
    python -m checks.refusals --gpu      those that only a GPU can judge

A file is `rejects/<operation>/<direction>_<what>.c` (or .cu, judged on the emulated device, or .py,
a library's calls, judged where there is a GPU) and says `//@ reject CHECK: reason`.
"""

import argparse
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from checks.prove import CHECKS, CUDA_CHECKS
from checks.trial import ANY
from checks.worker import Worker
from ported import contract as contracts
from ported import source
from ported.contract import DIRECTIONS
from ported.precision import PRECISIONS

FOLDER = Path(__file__).resolve().parent / "rejects"
TIMEOUT = 60.0
KNOWN = CHECKS | CUDA_CHECKS
PLACES = {".c": "cpu", ".cu": "emulated", ".py": "cuda"}


@dataclass(frozen=True)
class Reject:
    """One wrong kernel and the check that should refuse it."""

    path: Path
    operation: str
    direction: str
    check: str
    reason: str
    dtype: str = "float32"

    @property
    def device(self) -> str:
        """Where it is judged."""
        return PLACES[self.path.suffix]

    @property
    def name(self) -> str:
        kind = "" if self.device == "cpu" else self.path.suffix
        return f"{self.path.parent.name}/{self.path.stem}{kind}"


def read(path: Path) -> Reject:
    """The wrong kernel in `path`; ValueError where its name or its reject line is not one."""
    direction = path.stem.partition("_")[0]
    if direction not in DIRECTIONS:
        raise ValueError(f"{path}: found the name {path.name}; expected DIRECTION_what.c with a "
                         f"direction of {', '.join(DIRECTIONS)}")
    version = source.read(path, path.parent.name, direction)
    said = re.fullmatch(r"(\w+): (.+)", version.reject or "")
    if not said or said[1] not in KNOWN:
        raise ValueError(f"{path}: found '{version.reject}'; expected a line `//@ reject CHECK: "
                         f"reason` with a check of {', '.join(KNOWN)}")
    roles = contracts.of(version.contract_name).roles
    dtype = next(p.name for p in PRECISIONS.values() if version.supports(p, roles))
    return Reject(path, path.parent.name, direction, said[1], said[2], dtype)


def read_all(folder: Path = FOLDER, gpu: bool = False) -> list[Reject]:
    """Every wrong kernel, by operation: those judged without a GPU, or, if `gpu`, the others."""
    return [read(path) for path in sorted(folder.glob("*/*.*"))
            if path.suffix in PLACES and (PLACES[path.suffix] == "cuda") == gpu]


def judge(worker: Worker, reject: Reject, whole: bool = False) -> dict:
    """The proof of a wrong kernel, ended by the check that it names unless `whole`."""
    job = {"path": str(reject.path), "operation": reject.operation, "direction": reject.direction,
           "device": reject.device, "dtype": reject.dtype, "shrink": False}
    return worker.prove(job if whole else {**job, "target": reject.check}, TIMEOUT)


def verdict(reject: Reject, proof: dict) -> str:
    """refused; or what it is instead: accepted, refused by others, crashed, timed-out, error."""
    if proof["verdict"] in ("crashed", "timed-out"):
        return "refused" if proof.get("during") == reject.check else proof["verdict"]
    if proof["verdict"] == "proved":
        return "accepted"
    if proof["verdict"] == "error":
        return "error"
    return "refused" if reject.check in proof["refused"] else "refused by others"


def emptied(version: source.Version, folder: Path) -> Path:
    """A file in `folder` with the version's signatures and directives, and no code in them."""
    cuda = version.language == "cu"
    kind = 'extern "C" __global__ ' if cuda else ""
    code = [line for line in version.text.splitlines() if line.startswith("//@")]
    code.append('#include "common.cuh"' if cuda else "#include <stdint.h>\n#include <stddef.h>")
    for function, parameters in version.parameters.items():
        words = ", ".join(f"{'const ' * p.const}{p.ctype}{'*' * p.pointer} {p.name}"
                          for p in parameters)
        code.append(f"{kind}void {function}({words}) {{\n}}")
    path = folder / f"{version.direction}_empty.{version.language}"
    path.write_text("\n".join(code) + "\n")
    return path


def refuse_empty(worker: Worker, version: source.Version, folder: Path) -> dict:
    """The proof of a kernel that does nothing, in the place of `version`."""
    path = emptied(version, folder)
    device = "emulated" if version.language == "cu" else "cpu"
    return worker.prove({"path": str(path), "operation": version.operation, "device": device,
                         "direction": version.direction, "target": ANY, "shrink": False}, TIMEOUT)


def _matrix(judged: dict[str, tuple[Reject, dict]]) -> None:
    """What each check refuses, and what it alone refuses."""
    refused, alone = Counter(), Counter()
    for _, proof in judged.values():
        checks = set(proof["refused"])
        refused.update(checks)
        alone.update(checks if len(checks) == 1 else ())
    print(f"{'check':18}{'refuses':>8}{'alone':>7}")
    for check in [*KNOWN, "crashed", "timed-out"]:
        print(f"{check:18}{refused[check]:8}{alone[check]:7}")


def main() -> int:
    """Exit code 0 where every wrong kernel is refused by the check that it names."""
    parser = argparse.ArgumentParser(prog="python -m checks.refusals")
    parser.add_argument("--matrix", action="store_true", help="run all checks on each")
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--gpu", action="store_true", help="those that need a GPU")
    options = parser.parse_args()
    judged, wrong = {}, 0
    with Worker() as worker:
        for reject in read_all(gpu=options.gpu):
            if options.only not in reject.name:
                continue
            proof = judge(worker, reject, options.matrix)
            said = verdict(reject, proof)
            wrong += said != "refused"
            judged[reject.name] = reject, proof
            by = ", ".join(proof["refused"]) or "nothing"
            print(f"{said:18}{reject.name:44}{reject.check:12}by {by}, {proof['seconds']} s",
                  flush=True)
            if said == "error":
                print(proof["faults"][0]["message"])
    if options.matrix:
        _matrix(judged)
    print(f"{len(judged) - wrong} of {len(judged)} wrong kernels refused for their reason")
    return 1 if wrong or not judged else 0


if __name__ == "__main__":
    raise SystemExit(main())
