"""Where the seconds of a start go: named stages of the main thread, and what ran beside it.

    with stage("CUDA context"):
        ...

A stage inside another is taken off the outer one, so the main thread's add up to the time that has
passed; `told` says so in a line. Nothing here decides anything.
"""

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

LEAST = 0.01  # seconds: shorter stages are told together


class _Inside(threading.local):
    seconds = 0.0  # of the stages inside the one that is open in this thread


_inside, _lock = _Inside(), threading.Lock()
_main: dict[str, float] = {}
_beside: dict[str, float] = {}


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Counts the block's seconds, less those of stages within it, under `name`."""
    outer, _inside.seconds = _inside.seconds, 0.0
    begin = time.perf_counter()
    try:
        yield
    finally:
        took = time.perf_counter() - begin
        add(name, took - _inside.seconds)
        _inside.seconds = outer + took


def add(name: str, seconds: float) -> None:
    """`seconds` more of a stage of this thread."""
    into = _main if threading.current_thread() is threading.main_thread() else _beside
    with _lock:
        into[name] = into.get(name, 0.0) + seconds


def since_start() -> float | None:
    """Seconds since this process began, None where the system does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None


def taken() -> dict[str, dict[str, float]]:
    """{"main": seconds by stage, in the order of their ends, "beside": those of other threads}."""
    with _lock:
        return {"main": dict(_main), "beside": dict(_beside)}


def told(found: Mapping[str, Mapping[str, float]], whole: float) -> str:
    """`start 0.31, data 0.02, ... rest 0.05; beside: CUDA context 0.22`; the main thread's make
    up `whole` seconds."""
    long = {name: s for name, s in found["main"].items() if s >= LEAST}
    words = [f"{name} {s:.2f}" for name, s in long.items()]
    words += [f"rest {whole - sum(long.values()):.2f}"]
    beside = [f"{name} {s:.2f}" for name, s in found["beside"].items() if s >= LEAST]
    return ", ".join(words) + ("; beside: " + ", ".join(beside) if beside else "")


__all__ = ["add", "since_start", "stage", "taken", "told"]
