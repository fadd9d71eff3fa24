"""The run-shape proof: every chosen kernel at exactly the run's shapes, before anything trains.

Poison, accumulate, guards and gate, about a second a kernel, all kernels in one process of the
prover. That process needs torch, so the trainer starts it as a subprocess, and only for kernels
whose proof is not kept in the user's cache directory under the same meaning, shapes, parameters,
constants, compiler, instruction set and threads.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ported.contract import ROOT, Contract
from ported.device.cpu import cache_directory
from ported.evidence import Choice, EvidenceError, current_checks, meaning, store


def _request(key: str, choice: Choice, axes: Mapping[str, int], consts: Mapping[str, float],
             contracts: Mapping[str, Contract], device) -> dict:
    contract = contracts[choice.version.contract_name]
    return {"key": key, "version": choice.version.name, "parameters": dict(choice.parameters),
            "axes": dict(axes), "consts": dict(consts), "device": device.name,
            "meaning": meaning(choice.version, contract), "identity": dict(device.identity),
            "precision": device.precision.name, "checks": current_checks(choice.version.language)}


def _kept(request: Mapping) -> Path:
    text = json.dumps(request, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:20]
    return cache_directory() / "run_shape" / f"{request['version']}-{name}.json"


def ensure(steps: Mapping[str, tuple[Choice, Mapping[str, int], Mapping[str, float]]],
           contracts: Mapping[str, Contract], device,
           say: Callable[[str], None] = print) -> tuple[int, int]:
    """Proves what is not yet proved at these shapes; returns (proved now, proofs at hand).

    `steps` maps a `shape_key` to (choice, axes, consts). Raises EvidenceError that names each
    refused kernel with the prover's finding.
    """
    requests = [_request(key, *step, contracts, device) for key, step in steps.items()]
    missing = [request for request in requests if not _kept(request).is_file()]
    if missing:
        say(f"proving {len(missing)} kernels at this run's shapes "
            f"({len(requests) - len(missing)} proofs at hand)")
        refused = []
        for request, result in zip(missing, _prove(missing, device), strict=True):
            if result["verdict"] == "proved":
                store(_kept(request), {**request, "result": result})
            else:
                refused.append(f"{request['version']} at {request['key']}: {result['message']}")
        if refused:
            raise EvidenceError("refused at this run's shapes:\n  " + "\n  ".join(refused)
                                + "\ntake another version with --use NAME")
    return len(missing), len(requests) - len(missing)


def _prove(requests: list[dict], device) -> list[dict]:
    """Runs the prover on `requests` in a process of its own; one result each, in order."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "requests.json", Path(folder) / "results.json"
        asked.write_text(json.dumps({"threads": device.threads, "requests": requests}))
        command = [sys.executable, "-m", "checks.run_shape", str(asked), str(answered)]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if process.returncode or not answered.is_file():
            tail = "\n".join(process.stderr.splitlines()[-15:])
            raise EvidenceError(f"the prover ended with exit code {process.returncode}:\n{tail}\n"
                                "a kernel that crashes is found by `make verify KERNEL=NAME`")
        return json.loads(answered.read_text())
