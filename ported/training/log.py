"""The run's log: one JSON line a record, every number at full precision, no clock.

`log.jsonl` holds what the run computes and nothing else, so that two runs of the same training, or
one that was killed and resumed, leave the same bytes: first {"record": "run", ...}, then a line a
step, and lines for validations and samples. Times go to `timing.jsonl`.
"""

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path

from ported.training.errors import BadInput, disk_failure


def line(record: dict) -> str:
    """Python writes a float so that it reads back as the same bits."""
    return json.dumps(record, allow_nan=False) + "\n"


def read(path: Path) -> list[dict]:
    """Every record of a log; a last line that a kill cut off is left out.

    Raises BadInput naming the line that does not read.
    """
    records = []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise BadInput(path, error.strerror, "a run's log.jsonl", "name a run's folder") from error
    for number, text in enumerate(lines[:-1], 1):
        try:
            records.append(json.loads(text))
            records[-1].get("step")
        except (ValueError, AttributeError) as error:
            raise BadInput(f"{path}, line {number}", text[:60], f"a JSON record ({error})",
                           "restore the file, or begin a new run") from error
    if not records:
        raise BadInput(path, "no record", "a first record with the configuration",
                       "python train.py begins a new run")
    return records


class Log:
    """Appends to a run's log.jsonl and timing.jsonl. One process at a time."""

    def __init__(self, run: Path):
        """Raises BadInput where another process writes it or it cannot be written."""
        self.path = run / "log.jsonl"
        with contextlib.ExitStack() as stack:
            try:
                self.file = stack.enter_context(open(self.path, "r+b"))
                self.timing = stack.enter_context(open(run / "timing.jsonl", "ab"))
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BadInput(self.path, "another process is training in this run", "none",
                               "wait for it or stop it; --init-from CHECKPOINT begins another"
                               ) from error
            except OSError as error:
                raise disk_failure(self.path, error, "make the run's folder writable") from error
            self._files = stack.pop_all()

    def cut(self, step: int) -> None:
        """Back to where `step` had been done, ready to go on: later lines are lost. Step 0 leaves
        the first record and changes of flags. Raises BadInput where the log does not reach `step`.
        """
        records = read(self.path)
        kept = [record for record in records
                if record.get("step", -1) <= (step if step or "changed" in record else -1)]
        done = max((record["step"] for record in kept if "loss" in record), default=0)
        if done < step or records[: len(kept)] != kept:
            raise BadInput(self.path, f"steps up to {done}", f"every step up to {step}",
                           "restore the log, or --init-from the checkpoint in a new run")
        for _ in kept:
            self.file.readline()
        self.file.truncate(self.file.tell())

    def write(self, record: dict) -> None:
        """One line, handed to the system before this returns: a kill does not lose it."""
        try:
            self.file.write(line(record).encode())
            self.file.flush()
        except OSError as error:
            raise disk_failure(self.path, error, f"make room, then --resume {self.path.parent}"
                               ) from error

    def time(self, record: dict) -> None:
        """One line of timing.jsonl, with the clock's time in seconds since 1970."""
        try:
            self.timing.write(line({**record, "time": time.time()}).encode())
            self.timing.flush()
        except OSError as error:
            raise disk_failure(self.timing.name, error, "make room") from error

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def sync(self) -> None:
        """To the disk: called before a checkpoint, which must not be ahead of its log."""
        os.fsync(self.file.fileno())
