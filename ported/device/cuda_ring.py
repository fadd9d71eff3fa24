"""A ring of pinned host memory, through which writes go without waiting for the GPU.

A copy from pinned memory returns at once, but its source must stay until it is done. The ring has
segments; a segment is written again only when the event behind its last copy has come, which is
long past when the host is less than a whole ring ahead.
"""

import numpy as np

SEGMENT = 2 << 20  # bytes: tokens and targets of several micro-batches
SEGMENTS = 8
ALIGN = 64


class Ring:
    """Writes up to SEGMENT bytes each; `wait(event)` waits for an event."""

    def __init__(self, driver, stream, wait):
        self._driver, self._stream, self._wait = driver, stream, wait
        self._memory = driver.pagelocked_empty((SEGMENTS, SEGMENT), np.uint8)
        self._done = [None] * SEGMENTS
        self._segment = self._at = 0

    def write(self, address: int, array: np.ndarray) -> None:
        """Copies an array of bytes; it may change as soon as this returns."""
        size = array.nbytes
        if self._at + size > SEGMENT:
            self._turn()
        place = self._memory[self._segment, self._at:self._at + size]
        place[:] = array
        self._driver.memcpy_htod_async(address, place, self._stream)
        self._at += -(-size // ALIGN) * ALIGN

    def _turn(self) -> None:
        event = self._driver.Event(self._driver.event_flags.DISABLE_TIMING)
        self._done[self._segment] = event.record(self._stream)
        self._segment, self._at = (self._segment + 1) % SEGMENTS, 0
        if self._done[self._segment] is not None:
            self._wait(self._done[self._segment])


__all__ = ["SEGMENT", "Ring"]
