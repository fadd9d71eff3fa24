"""Ctrl-C and SIGTERM: the first asks the loop to stop after this step, the second kills at once."""

import os
import signal


class Interrupt:
    """`with Interrupt() as interrupt:` ... `interrupt.signal` is the signal's number, or 0."""

    def __init__(self):
        self.signal, self.before = 0, {}

    def __enter__(self) -> "Interrupt":
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, self._first)
        return self

    def _first(self, number: int, frame: object) -> None:
        self.signal = number
        for each in self.before:
            signal.signal(each, signal.SIG_DFL)  # the system's: works inside a kernel too
        os.write(2, b"\nstopping after this step; once more stops at once\n")  # print may be busy

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """What a shell expects: 130 after Ctrl-C, 143 after SIGTERM, 0 where nobody asked."""
        return 128 + self.signal if self.signal else 0
