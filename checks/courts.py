"""Several courts side by side, each with a copy of the checkout, over one list of tasks."""

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
    """The tasks that wait, in groups; the answers; and what went wrong with a judge."""

    def __init__(self, tasks: list[Task], groups: list[str], tell: Callable[[dict], None]):
        waiting: dict[str, list[int]] = {}
        for number, group in enumerate(groups):
            waiting.setdefault(group, []).append(number)
        self.tasks, self.waiting = tasks, list(waiting.values())
        self.found: list[dict | None] = [None] * len(tasks)
        self.faults: list[BaseException] = []
        self.taken: dict[int, list[int]] = {}  # the group that each judge is at
        self.tell, self.lock = tell, threading.Lock()

    def _take(self, judge: int) -> int | None:
        """The number of the next task: of the group that this judge is at, else of one that nobody
        is at, else of another's."""
        with self.lock:
            own = self.taken.get(judge)
            if not own:
                free = [g for g in self.waiting if g and all(g is not t for t in
                                                             self.taken.values())]
                own = (free or [g for g in self.waiting if g] or [None])[0]
                self.taken[judge] = own
            return own.pop(0) if own else None

    def done_by(self, court: Court, judge: int) -> None:
        """Task after task, until none waits or another judge failed."""
        while not self.faults:
            number = self._take(judge)
            if number is None:
                return
            self.found[number] = self.tasks[number](court)
            court.tidy()
            with self.lock:
                self.tell(self.found[number])


def all_of(tasks: list[Task], groups: list[str], jobs: int, store: Store, device: str,
           tell: Callable[[dict], None]) -> list[dict]:
    """The answer to each task, in the tasks' order; `tell` hears of each as it comes. Tasks of one
    group share what is known of its cases, so one judge takes them while others have their own.
    What a judge raises is raised here."""
    work = _Work(tasks, groups, tell)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="matrix-")))
        clean = mutants.copied(folder / "clean")

        def judge(number: int) -> None:
            try:
                tree = mutants.copied(folder / f"tree{number}", clean)
                scratch = linked(folder / f"cache{number}")
                with Court(tree, clean, scratch, store, device) as court:
                    work.done_by(court, number)
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
