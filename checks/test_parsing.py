"""Syntax trees in several threads at once."""

import gc
import threading
import time

from ported.contract import ROOT
from ported.parsing import parsed


class Slow:
    """Garbage that only the collector finds, and that lets other threads go on as it dies."""

    def __init__(self):
        self.me = self

    def __del__(self):
        time.sleep(0.0002)


def test_threads_do_not_meddle_with_each_others_trees():
    """At unlike depths, the collector at work: with ast.parse this ends with a SystemError on
    CPython 3.11, most times."""
    text, faults = (ROOT / "checks" / "gate.py").read_text(), []

    def at_depth(depth: int) -> None:
        if depth:
            return at_depth(depth - 1)
        for _ in range(40):
            Slow(), Slow()
            try:
                parsed(text)
            except SystemError as error:
                faults.append(error)

    before = gc.get_threshold()
    gc.set_threshold(200)
    try:
        threads = [threading.Thread(target=at_depth, args=(5 * k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)
    assert not faults
