"""The run-shape proof: every chosen kernel at exactly the run's shapes, before anything trains.

Poison, accumulate, guards and gate, about a second a kernel at a processor's shapes. The prover
needs torch, so the trainer starts it as a process of its own (for a GPU several, which share the
kernels), and only for kernels whose proof is not kept in the user's cache directory under the same
meaning, shapes, parameters, constants, compiler, instruction set and threads.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ported.contract import ROOT, Contract
from ported.device.cpu import cache_directory
from ported.evidence import Choice, EvidenceError, current_checks, meaning, store

CORES, MEMORY = 4, 12 << 30  # of the host, that one process of the prover may want for a GPU's run


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
    """One result a request, in order. A device beside the processor leaves its cores to the truth:
    several processes of the prover share the requests."""
    groups = [requests[k::count] for count in [_processes(device)] for k in range(count)]
    with ThreadPoolExecutor(len(groups)) as pool:
        found = list(pool.map(lambda group: _in_a_process(group, device), groups))
    return [found[k % len(groups)][k // len(groups)] for k in range(len(requests))]


def _processes(device) -> int:
    """As many as there are CORES and MEMORY for each; on the cpu device one, whose kernels take all
    cores."""
    if device.threads > 1 or device.name == "cpu":
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min((os.cpu_count() or 1) // CORES, memory // MEMORY))


def _in_a_process(requests: list[dict], device) -> list[dict]:
    """Runs the prover on `requests` in a process of its own; one result each, in order."""
    if not requests:
        return []
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "requests.json", Path(folder) / "results.json"
        threads = device.threads if device.name == "cpu" else CORES
        asked.write_text(json.dumps({"threads": threads, "requests": requests}))
        command = [sys.executable, "-m", "checks.run_shape", str(asked), str(answered)]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if process.returncode or not answered.is_file():
            tail = "\n".join(process.stderr.splitlines()[-15:])
            raise EvidenceError(f"the prover ended with exit code {process.returncode}:\n{tail}\n"
                                "a kernel that crashes is found by `make verify KERNEL=NAME`")
        return json.loads(answered.read_text())
