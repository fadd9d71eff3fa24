"""A run's folder: a new one each time, born whole with the first record of its log."""

import datetime
import os
import shutil
import subprocess
from pathlib import Path

from ported.contract import ROOT
from ported.training.config import Config
from ported.training.errors import disk_failure


def new_run(config: Config, first: str) -> Path:
    """Makes OUT/<date>-<name>/ with log.jsonl holding the line `first`; adds -2, -3, ... where the
    second has one already. Raises BadInput where the folder cannot be written."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = Path(config.out)
    name = config.name or Path(config.init_from).name or config.model
    making = base / f".new-{stamp}-{os.getpid()}"
    try:
        making.mkdir(parents=True)
        (making / "log.jsonl").write_text(first)
        for number in range(1, 10**6):
            run = base / (f"{stamp}-{name}" + (f"-{number}" if number > 1 else ""))
            try:
                os.rename(making, run)
                return run
            except OSError:
                if not run.exists():
                    raise
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise disk_failure(base, error, "--out FOLDER, one that you may write to") from error
    raise AssertionError("a million runs in a second")


def commit() -> str | None:
    """The project's commit, with -dirty where files differ from it; None outside a git clone."""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
