"""The run-shape proof: every chosen kernel at exactly the run's shapes, before anything trains.

Poison, accumulate, guards and gate, about a second a kernel at a processor's shapes. The prover
needs torch, so the trainer starts it as a process of its own (for a GPU several; each takes the
next kernel when it is done with one), and only for kernels whose proof is not kept in the user's
cache directory under the same meaning, shapes, parameters, constants, compiler, instruction set and
threads.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

from ported.contract import ROOT, Contract
from ported.device.cpu import cache_directory
from ported.evidence import Choice, EvidenceError, current_checks, meaning, store

CORES, MEMORY = 2, 4 << 30  # of the host, that one process of the prover may want for a GPU's run
EVERY = 2.0  # seconds between lines of progress


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
        for request, result in zip(missing, _prove(missing, device, say), strict=True):
            if result["verdict"] != "proved":
                refused.append(f"{request['version']} at {request['key']}: {result['message']}")
        if refused:
            raise EvidenceError("refused at this run's shapes:\n  " + "\n  ".join(refused)
                                + "\ntake another version with --use NAME")
    return len(missing), len(requests) - len(missing)


def _prove(requests: list[dict], device, say: Callable[[str], None]) -> list[dict]:
    """One result a request, in order; what is proved is kept at once, so that a run that is stopped
    loses little. The large ones begin first, those with sequences, which cannot be cut, before."""
    results: list[dict] = [{} for _ in requests]
    axes = [request["axes"] for request in requests]
    order = sorted(range(len(axes)), key=lambda k: ("T" not in axes[k], -prod(axes[k].values())))
    waiting, told = iter(order), _Told(len(requests), say)

    def work(_: int) -> None:
        with _Prover(device) as prover:
            while (k := told.next(waiting)) is not None:
                results[k] = prover.ask(requests[k])
                if results[k]["verdict"] == "proved":
                    store(_kept(requests[k]), {**requests[k], "result": results[k]})
                told.done(requests[k]["version"], results[k])
    count = min(_processes(device), len(requests))
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))
    return results


class _Told:
    """Gives out the work, and says how far it is."""

    def __init__(self, count: int, say: Callable[[str], None]):
        self.count, self.say, self.ready = count, say, 0
        self.began = self.last = time.monotonic()
        self.lock = threading.Lock()

    def next(self, waiting: Iterator[int]) -> int | None:
        with self.lock:
            return next(waiting, None)

    def done(self, name: str, result: Mapping) -> None:
        with self.lock:
            self.ready += 1
            now = time.monotonic()
            if now - self.last >= EVERY:
                self.last = now
                self.say(f"  {self.ready} of {self.count} after {now - self.began:.0f} s; now "
                         f"{name}: {result['verdict']}, {result['seconds']:.1f} s")


def _processes(device) -> int:
    """As many as there are CORES and MEMORY for each; on the cpu device one, whose kernels take all
    cores."""
    if device.threads > 1 or device.name == "cpu":
        return 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min((os.cpu_count() or 1) // CORES, memory // MEMORY))


class _Prover:
    """A process of the prover. `ask` raises EvidenceError with its last words where it ends."""

    def __init__(self, device):
        self.threads = device.threads if device.name == "cpu" else CORES

    def __enter__(self) -> "_Prover":
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "checks.run_shape", str(self.threads)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        return self

    def ask(self, request: Mapping) -> dict:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        if line := self.process.stdout.readline():
            return json.loads(line)
        code = self.process.wait()
        self.errors.seek(0)
        tail = "\n".join(self.errors.read().splitlines()[-15:])
        raise EvidenceError(f"the prover ended with exit code {code} at {request['version']}, "
                            f"{request['key']}:\n{tail}\na kernel that crashes is found by "
                            f"`make verify KERNEL={request['version']}`")

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        if error[0] is not None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()
