"""Judges kernels in a process of their own, so that a crash or a hang is a verdict and not the end.

The parent sends one job a line (JSON) and reads one answer a line from a pipe of its own; what a
kernel prints does not come between them. A small file says what is about to run, so that a crash
can be placed. One worker judges many kernels: torch is imported once.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

WISHES = ("tier", "seed", "case", "target", "shrink", "spare")
STATUS = 600  # bytes of the file that says what is running
UNSOUND = ("the processor's mode was changed for all that runs after it in this process: numbers "
           "below 2^-126 become zero, or sums are rounded another way")
ROOT = Path(__file__).resolve().parent.parent


class Worker:
    """A process that proves. Used as a context; `prove` never raises for what a kernel does."""

    def __init__(self, threads: int | None = None, root: Path = ROOT,
                 environment: Mapping[str, str] | None = None):
        """`root`: the checkout that judges; `environment`: added to this process's."""
        self.threads, self.root = threads, root
        self.environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen | None = None
        self._folder = tempfile.TemporaryDirectory()
        self._status = Path(self._folder.name) / "status"
        self._errors = Path(self._folder.name) / "errors"

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._end()
        self._folder.cleanup()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            os.close(self._answers)
            self._process = None

    def _start(self) -> None:
        self._status.write_bytes(b" " * STATUS)
        self._answers, writing = os.pipe()
        command = [sys.executable, "-m", "checks.worker", str(writing), str(self._status)]
        with open(self._errors, "wb") as errors:
            self._process = subprocess.Popen(command, cwd=self.root, env=self.environment,
                                             stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                             stderr=errors, pass_fds=(writing,))
        os.close(writing)

    def prove(self, job: dict, timeout: float = 300.0) -> dict:
        """The proof as JSON. `verdict`: proved, refused, not applicable (with the `reason`),
        crashed or timed-out (`during` which check), or error (the file does not compile, or does
        not fit its contract).

        job: `path` of the version file, and as wished `operation`, `direction` (outside the
        tree), `device`, `dtype`, `threads`, `tier`, `seed`, `case`, `target`, `shrink`, `spare`;
        `errors`: the worst error over its bound of each check, output and family too; `timed`:
        the seconds of each phase; `directives`: lines that count as the file's. With `trace` or
        `picture` it is not a proof: see witness.trace, verify_picture.of.
        """
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._start()
        start = time.monotonic()
        try:
            self._process.stdin.write(json.dumps({"threads": self.threads, **job}).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._read(start + timeout)
        except BrokenPipeError:
            answer = b""
        if answer.endswith(b"\n"):
            proof = json.loads(answer)
            if proof.pop("lost", False):
                self._end()
            return proof
        return self._gone(time.monotonic() - start, answer == b"hang")

    def _read(self, end: float) -> bytes:
        answer = b""
        while not answer.endswith(b"\n"):
            ready, _, _ = select.select([self._answers], [], [], max(end - time.monotonic(), 0))
            if not ready:
                return b"hang"
            part = os.read(self._answers, 1 << 16)
            if not part:
                return b""
            answer += part
        return answer

    def _gone(self, seconds: float, hung: bool) -> dict:
        """The verdict on a kernel that took the process with it."""
        at = self._status.read_bytes().decode(errors="replace").strip(" \0")
        code = None if hung else self._process.wait()
        errors = self._errors.read_text(errors="replace")[-2000:]
        self._end()
        if hung:
            verdict, message = "timed-out", f"no answer after {seconds:.0f} s"
        elif code < 0:
            verdict, message = "crashed", f"the process died of {signal.Signals(-code).name}"
        else:
            verdict, message = "crashed", f"the process ended with code {code}:\n{errors}"
        during, case = [*at.split(" "), "", ""][:2]
        proof = _unjudged(verdict, f"{message} at: {at or 'the start'}", case, seconds)
        return {**proof, "during": during}


def confirmed(prove: Callable[[dict], dict], job: dict) -> dict:
    """The answer of `prove`, which asks a Worker. One that crashed is asked again, in the new
    process that takes its place: wrong files before it may have written over what is not theirs."""
    found = prove(job)
    return prove(job) if found["verdict"] == "crashed" else found


def _unjudged(verdict: str, message: str, case: str = "", seconds: float = 0.0) -> dict:
    """A proof that ended before it could judge."""
    fault = {"check": verdict, "output": "", "message": message, "ratio": 0.0, "case": case,
             "parameters": {}}
    return {"verdict": verdict, "seconds": round(seconds, 2), "checks": {}, "faults": [fault],
            "refused": {verdict: 1}, "not_run": {}, "configurations": 0}


def sound() -> bool:
    """Whether this process computes as IEEE 754 says: denormals kept, rounded to nearest. A library
    built with -ffast-math changes that where it is loaded, for everything."""
    small, one = np.float32(1e-40), np.float32(1)
    nearest = all(sign * one + sign * np.float32(2**-25) == sign for sign in (1, -1))
    return bool(small * one != 0) and nearest


def _judge(job: dict, say, cache: dict) -> dict:
    from checks import prove, verify_picture, witness
    from checks.trial import Fault
    from ported import contract as contracts
    from ported import device as devices
    from ported import source

    before = sum(os.times()[:4])
    key = (job.get("device", "cpu"), job.get("dtype", "float32"), job.get("threads"))
    if key not in cache:
        threads = {"threads": key[2]} if key[2] and key[0] == "cpu" else {}
        cache[key] = devices.open(key[0], precision=key[1], **threads)
    version = source.read(Path(job["path"]), job.get("operation"), job.get("direction"),
                          job.get("directives", ""))
    if "picture" in job:
        return {"picture": verify_picture.of(version, cache[key], job["picture"])}
    if "trace" in job:
        return witness.trace(version, job, say)
    contract = contracts.of(version.contract_name)
    wanted = {name: job[name] for name in WISHES if name in job}
    proof = prove.prove(version, contract, cache[key], say=say, **wanted)
    if not sound():
        proof.ledger.target, proof.lost = None, True
        proof.ledger.refuse(Fault("frozen", "", UNSOUND, float("inf"), ""))
    more = {"errors": proof.ledger.errors_as_list()} if job.get("errors") else {}
    if job.get("timed"):
        proof.ledger.enter("")
        more["phases"] = {phase: round(s, 3) for phase, s in proof.ledger.seconds.items()}
        more["cpu"] = round(sum(os.times()[:4]) - before, 2)
    return proof.as_dict() | more


def main(answers: int, status: str) -> None:
    """Answers jobs until the parent closes the pipe."""
    import torch

    torch.set_num_threads(1)
    file, cache = os.open(status, os.O_WRONLY), {}
    for line in sys.stdin:
        try:
            answer = _judge(json.loads(line), lambda text: os.pwrite(
                file, text.encode()[:STATUS].ljust(STATUS), 0), cache)
        except Exception as error:  # whatever it is, it is an answer, and the next job comes
            expected = type(error).__module__.startswith(("ported", "checks.cases"))
            message = str(error) if expected else traceback.format_exc()
            answer = _unjudged("error", message) | ({} if expected else {"lost": True})
        os.write(answers, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
