"""Tensors larger than the machine's memory: a small piece of it, mapped again and again.

A `Folded` of 8 GiB shows the same two mebibytes at every second mebibyte of its addresses, filled
with one number. Only the pages that are named (`windows`) are memory of their own: what a kernel
reads and writes there is kept apart. So a launch may walk over 2^31 elements and more, and the
elements that are judged are real. Before and behind lie 2^31 elements that may not be touched: an
index that overflowed is a crash.
"""

import ctypes
import mmap
import os
from collections.abc import Iterable

import numpy as np

PAGE = mmap.PAGESIZE
FOLD = 2 << 20  # bytes: within a processor's second cache
CLOSED = 4 << 31  # bytes on each side: an index of 32 bits reaches 2^31 elements either way
NONE, READ_WRITE = 0, mmap.PROT_READ | mmap.PROT_WRITE
SHARED, PRIVATE, FIXED, ANONYMOUS = 0x01, 0x02, 0x10, 0x20
NO_RESERVE, POPULATE = 0x4000, 0x8000
FAILED = ctypes.c_void_p(-1).value
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                       ctypes.c_int64]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def available() -> bool:
    """Whether this system can map one piece of memory at many addresses (Linux)."""
    return hasattr(os, "memfd_create")


def _map(at: int | None, nbytes: int, access: int, flags: int, file: int = -1, offset: int = 0):
    found = _LIBC.mmap(at, nbytes, access, flags, file, offset)
    if found == FAILED:
        error = ctypes.get_errno()
        raise OSError(error, f"mmap of {nbytes} bytes: {os.strerror(error)}")
    return found


class Folded:
    """`nbytes` at `address`, every byte of them there to be read and written, until `close`.

    `word`: what fills it (4 bytes, or 2). `windows`: (first, end) in bytes of what is kept apart,
    widened to pages; None where everything is, as it is in a buffer of few bytes.
    """

    def __init__(self, nbytes: int, word: bytes, windows: Iterable[tuple[int, int]] | None):
        self.size = -(-max(nbytes, 1) // PAGE) * PAGE
        self._word = word
        self._reserved = self.size + 2 * CLOSED
        self._start = _map(None, self._reserved, NONE, PRIVATE | ANONYMOUS | NO_RESERVE)
        self.address = self._start + CLOSED
        self._file = os.memfd_create("folded")
        os.ftruncate(self._file, FOLD)
        os.pwrite(self._file, word * (FOLD // len(word)), 0)
        try:
            self.folded = windows is not None and self.size > 2 * FOLD
            self._lay(list(windows or ()))
        except OSError:
            self.close()
            raise

    def _lay(self, windows: list[tuple[int, int]]) -> None:
        how = FIXED | (SHARED | POPULATE if self.folded else PRIVATE)
        for at in range(0, self.size, FOLD):
            _map(self.address + at, min(FOLD, self.size - at), READ_WRITE, how, self._file)
        if not self.folded:
            return
        pages = {page for first, end in windows
                 for page in range(first // PAGE, -(-end // PAGE))}
        for page in sorted(pages):  # a copy of what the fold shows there, once it is written to
            at = page * PAGE
            _map(self.address + at, PAGE, READ_WRITE, PRIVATE | FIXED, self._file, at % FOLD)
            ctypes.memmove(self.address + at, self.address + at, 1)

    def fold_changed(self) -> bool:
        """Whether something was written outside all windows."""
        if not self.folded:
            return False
        shown = np.frombuffer(os.pread(self._file, FOLD, 0), np.uint8)
        return not np.array_equal(shown, np.resize(np.frombuffer(self._word, np.uint8), FOLD))

    def close(self) -> None:
        """Gives the addresses back."""
        _LIBC.munmap(self._start, self._reserved)
        os.close(self._file)
