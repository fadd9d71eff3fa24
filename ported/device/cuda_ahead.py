"""What takes long on the way to a GPU and needs nothing of ours, in threads beside Python's work.

The driver's start, the primary context and a vendor library's first handle are waits inside C,
during which ctypes lets Python go on. Only the process is warmed: whoever needs a context or a
handle makes its own as ever, quickly then, and with the error messages that are due. So what fails
here is left to fail there.
"""

import contextlib
import ctypes
import os
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

from ported.stages import stage

LIBRARIES = {  # its file, under LD_LIBRARY_PATH or in pip's wheels; create and destroy of a handle
    "cuBLASLt": ("libcublasLt.so.13", "nvidia/cu13/lib", "cublasLtCreate", "cublasLtDestroy"),
    "cuDNN": ("libcudnn.so.9", "nvidia/cudnn/lib", "cudnnCreate", "cudnnDestroy"),
}
# Modules that cuDNN's Python side loads to ask whether kernels of its own, in Python, would serve a
# graph of attention: a quarter of a second. No plan takes one (Planned, in ported/device/cudnn.py).
LEFT_OUT = ("cudnn.sdpa", "cudnn._sdpa_validate")


class Ahead:
    """Begins at once; `settle` gives back what is held, once the device has a context itself."""

    def __init__(self, precision: str, ordinal: int = 0):
        self._ordinal, self._driver, self._context = ordinal, None, ctypes.c_void_p()
        self._ready = threading.Event()
        wanted = ["cuBLASLt"] + (["cuDNN"] if precision == "bfloat16" else [])
        for name in LEFT_OUT if "cuDNN" in wanted else ():
            sys.modules.setdefault(name, None)  # Python's word for a module that is not there
        _beside(self._open)
        for name in wanted:
            _beside(self._warm, name)
        _beside(_asked)

    def settle(self) -> None:
        """Waits for the context; to be called when the device has retained it, too."""
        self._ready.wait()
        if self._context:
            self._driver.cuDevicePrimaryCtxRelease_v2(self._ordinal)

    def _open(self) -> None:
        try:
            with stage("CUDA driver and context"):
                driver, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
                if not (driver.cuInit(0)
                        or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), self._ordinal)):
                    self._driver, self._context = driver, context
        finally:
            self._ready.set()

    def _warm(self, name: str) -> None:
        file, wheel, create, destroy = LIBRARIES[name]
        path = _found(file, wheel)
        if path is None:
            return
        with stage(f"loading {name}"):
            library = _loaded(path)
        self._ready.wait()
        if not self._context:
            return
        with stage(f"{name}'s first handle"):
            handle = ctypes.c_void_p()
            self._driver.cuCtxSetCurrent(self._context)
            if not getattr(library, create)(ctypes.byref(handle)):
                getattr(library, destroy)(handle)


def _beside(work: Callable, *arguments: object) -> None:
    """`work` in a thread that no exit waits for; its errors are left to those who come after."""
    def run() -> None:
        with contextlib.suppress(Exception):
            work(*arguments)
    threading.Thread(target=run, daemon=True).start()


def _asked() -> None:
    """What other programs are asked for the device's identity; the answers are kept."""
    from ported.device import cuda

    with stage("nvcc's version"):
        cuda.nvcc_version()


def _found(file: str, wheel: str) -> Path | None:
    """Where the libraries' own Python sides look first, so that it is the same file."""
    places = [Path(p) for p in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if p]
    places.append(Path(sysconfig.get_path("purelib")) / wheel)
    return next((place / file for place in places if (place / file).is_file()), None)


def _loaded(path: Path) -> ctypes.CDLL:
    """The library. ctypes opens it while Python stands still, some tenths of a second for these; a
    call of dlopen by itself lets Python go on, and then ctypes finds it open."""
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.restype, dlopen.argtypes = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_int)
    dlopen(os.fsencode(path), os.RTLD_NOW)
    return ctypes.CDLL(str(path))


__all__ = ["Ahead"]
