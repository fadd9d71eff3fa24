"""Several courts side by side, each with a copy of the checkout, over one list of tasks."""

import queue
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from checks import mutants
from checks.court import Court, Store
from ported.device import cpu

Task = Callable[[Court], dict]


def linked(scratch: Path) -> Path:
    """A cache for what is compiled of mutants, with the emulated device's own libraries in it: the
    user's cache is not filled with wrong kernels, and the runtime is not built once more."""
    place = scratch / "trivium" / "emulated"
    place.mkdir(parents=True)
    for path in (cpu.cache_directory() / "emulated").glob("*"):
        if path.name.startswith(("runtime-", "headers-")):
            (place / path.name).symlink_to(path)
    return scratch


class _Work:
    """The tasks that wait, the answers, and what went wrong with a judge."""

    def __init__(self, tasks: list[Task], tell: Callable[[dict], None]):
        self.waiting: queue.SimpleQueue = queue.SimpleQueue()
        for entry in enumerate(tasks):
            self.waiting.put(entry)
        self.found: list[dict | None] = [None] * len(tasks)
        self.faults: list[BaseException] = []
        self.tell, self.lock = tell, threading.Lock()

    def done_by(self, court: Court) -> None:
        """Task after task, until none waits or another judge failed."""
        while not self.faults:
            try:
                at, task = self.waiting.get_nowait()
            except queue.Empty:
                return
            self.found[at] = task(court)
            with self.lock:
                self.tell(self.found[at])


def all_of(tasks: list[Task], jobs: int, store: Store, device: str,
           tell: Callable[[dict], None]) -> list[dict]:
    """The answer to each task, in the tasks' order; `tell` hears of each as it comes. What a judge
    raises is raised here."""
    work = _Work(tasks, tell)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="matrix-")))
        clean, scratch = mutants.copied(folder / "clean"), linked(folder / "cache")

        def judge(number: int) -> None:
            try:
                tree = mutants.copied(folder / f"tree{number}", clean)
                with Court(tree, clean, scratch, store, device) as court:
                    work.done_by(court)
            except BaseException as error:  # noqa: B036 - raised below, in the caller's thread
                work.faults.append(error)

        threads = [threading.Thread(target=judge, args=(n,)) for n in range(max(jobs, 1))]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException as error:  # stopped by hand: judges end with what they are at
            work.faults.append(error)
            for thread in threads:
                thread.join()
    if work.faults:
        raise work.faults[0]
    return work.found
