"""The processor's floating-point control word: rounding to nearest, gradual underflow.

A kernel that leaves it changed (so does a library built with -ffast-math, when it is loaded) spoils
all that is computed after it, the truth that it is judged by included. It is therefore read around
every load and launch, a change is a refusal, and the word is put back.
"""

import ctypes
import platform
from contextlib import contextmanager

_MATH = ctypes.CDLL("libm.so.6" if platform.system() == "Linux" else None)
ENVIRONMENT = 64  # bytes, more than any fenv_t has


def _environment():
    found = (ctypes.c_uint8 * ENVIRONMENT)()
    _MATH.fegetenv(found)
    return found


def control(environment=None) -> tuple[int, ...]:
    """The part that says how to compute; flags that exceptions leave behind are not in it."""
    raw = bytes(environment or _environment())
    if platform.machine() in ("x86_64", "AMD64"):
        x87, mxcsr = int.from_bytes(raw[:2], "little"), int.from_bytes(raw[28:32], "little")
        return x87, mxcsr & 0xFFC0
    return (int.from_bytes(raw[:4], "little"),)


@contextmanager
def watched(report):
    """Calls `report(message)` where what runs inside leaves another control word; restores it."""
    before = _environment()
    try:
        yield
    finally:
        after = control()
        if after != control(before):
            _MATH.fesetenv(before)
            report("the processor's floating-point control word was left changed: found "
                   f"{', '.join(map(hex, after))}, expected "
                   f"{', '.join(map(hex, control(before)))} (rounding, flushing of denormals)")
