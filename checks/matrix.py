"""The kill matrix: every mutant judged by every check, and the controls that make it count.

    python -m checks.matrix                          all mutants, rejects and controls
    python -m checks.matrix --only 'layernorm/*'     some
    python -m checks.matrix --sample                 each family at least once
    python -m checks.matrix --honest --seeds 1000    honest variants: none may be refused
    python -m checks.matrix --device cuda            those whose witness needs a GPU

Exit code 0: the controls hold, every survivor is explained, and enough of those with a witness are
killed. Results are kept; a later run judges what changed (`--anew`: everything).
"""

import argparse
import fnmatch
import os
import queue
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from checks import mutants
from checks.court import Court, Store
from checks.mutants import FAMILIES
from ported.device import cpu


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m checks.matrix",
                                     description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="a glob of names: 'layernorm*/backward_*'")
    parser.add_argument("--family", choices=list(FAMILIES))
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)),
                        help="so many judges side by side (the cores)")
    parser.add_argument("--anew", action="store_true", help="take nothing from earlier runs")
    return parser


def linked(scratch: Path) -> Path:
    """A cache for what is compiled of mutants, with the emulated device's own libraries in it: the
    user's cache is not filled with wrong kernels, and the runtime is not built once more."""
    place = scratch / "trivium" / "emulated"
    place.mkdir(parents=True)
    for path in (cpu.cache_directory() / "emulated").glob("*"):
        if path.name.startswith(("runtime-", "headers-")):
            (place / path.name).symlink_to(path)
    return scratch


def all_of(tasks: list, jobs: int, store: Store, device: str,
           tell: Callable[[dict], None]) -> list[dict]:
    """Each task, `task(court)`, done by one of `jobs` courts; the answers in the tasks' order."""
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for entry in enumerate(tasks):
        waiting.put(entry)
    found: list[dict | None] = [None] * len(tasks)
    faults: list[BaseException] = []
    lock = threading.Lock()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="matrix-")))
        clean, scratch = mutants.copied(folder / "clean"), linked(folder / "cache")

        def work(number: int) -> None:
            tree = mutants.copied(folder / f"tree{number}", clean)
            with Court(tree, clean, scratch, store, device) as court:
                while not faults:
                    try:
                        at, task = waiting.get_nowait()
                    except queue.Empty:
                        return
                    try:
                        found[at] = task(court)
                        with lock:
                            tell(found[at])
                    except BaseException as error:  # noqa: B036 - raised below, in the main thread
                        faults.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if faults:
        raise faults[0]
    return found


def line(row: dict) -> str:
    """One row as it is printed while the run goes on."""
    by = ", ".join(row["by"])
    what = f"by {by}" if by else row["first"] or row["witness"]
    return f"{row['state']:12} {row['name']:52} {row['seconds']:6.1f} s  {what[:150]}"


def main(words: list[str] | None = None) -> int:
    options = parser().parse_args(words)
    chosen = [m for m in mutants.read_all() if fnmatch.fnmatch(m.label, options.only)
              and options.family in (None, m.family)]
    store = Store(anew=options.anew)
    rows = all_of([lambda court, m=m: court.judge(m) for m in chosen], options.jobs, store, "",
                  lambda row: print(line(row), flush=True))
    for row in rows:
        if row["state"] == "survived":
            print(row["name"], row["witness"])
    print(f"{len(rows)} judged, {store.reused} taken from earlier runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
