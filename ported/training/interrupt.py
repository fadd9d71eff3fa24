"""Ctrl-C and SIGTERM: the first asks the loop to stop after this step, the second kills at once."""

import os
import signal
from collections.abc import Callable


class Interrupt:
    """`with Interrupt(say) as interrupt:` ... `interrupt.signal` is the signal's number, or 0."""

    def __init__(self, say: Callable[[str], None] = print):
        self.signal, self.say, self.before = 0, say, {}

    def __enter__(self) -> "Interrupt":
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, self._first)
        return self

    def _first(self, number: int, frame: object) -> None:
        self.signal = number
        for each in self.before:
            signal.signal(each, signal.SIG_DFL)  # the system's: works inside a kernel too
        self.say(f"\nstopping after this step (again: at once, as kill {os.getpid()} does)")

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """What a shell expects: 130 after Ctrl-C, 143 after SIGTERM, 0 where nobody asked."""
        return 128 + self.signal if self.signal else 0
