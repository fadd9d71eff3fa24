"""Builds the recording driver: driver.c with streams.h, and every call beside them that PyCUDA
links against.

PyCUDA's module does not load where one symbol of the driver is missing, so the names are read from
the module itself: nothing of CUDA is needed, neither headers nor a toolkit. Where PyCUDA is not
installed, `stand_in` calls the same driver.
"""

import hashlib
import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from ported.device.cpu import cache_directory, compiler

SOURCE = Path(__file__).with_name("driver.c")
STAND_IN = Path(__file__).with_name("stand_in")
STAND_IN_DRIVER = STAND_IN / "pycuda" / "driver.py"
BESIDES = ("cuGraphUpload", "cuGraphDestroy", "cuGraphExecDestroy",  # cuda.bindings asks for these
           "cuStreamSetAttribute", "cuCtxSetLimit")  # and could ask for these, which nothing should


def _module(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return None


def missing() -> str | None:
    """Why the cuda device cannot run on the recording driver here; None where it can."""
    if _module("cuda.bindings") is None:
        return "no Python package cuda.bindings (make test installs it)"
    return None


def has_pycuda() -> bool:
    """Whether PyCUDA itself is installed, and the tools that read what it links against."""
    return _module("pycuda") is not None and shutil.which("nm") is not None


def _wanted() -> set[str]:
    """The driver's calls that PyCUDA's compiled module imports, and those of the stand-in."""
    names = {*BESIDES, *re.findall(r'"(cu[A-Z]\w*)"', STAND_IN_DRIVER.read_text())}
    if not has_pycuda():
        return names
    folder = Path(_module("pycuda").origin).parent
    for module in folder.glob("_driver*.so"):
        shown = subprocess.run(["nm", "-D", "--undefined-only", str(module)], capture_output=True,
                               text=True, check=True).stdout
        names |= set(re.findall(r" U (cu[A-Z]\w*)", shown))
    return names


def build() -> Path:
    """The folder that holds libcuda.so.1, for LD_LIBRARY_PATH."""
    include = '#include "streams.h"\n'
    before, _, behind = SOURCE.read_text().partition(include)
    own = before + SOURCE.with_name("streams.h").read_text() + behind
    rest = sorted(_wanted() - set(re.findall(r"^Result (cu\w+)\(", own, re.M)))
    text = own + "".join(f'\nResult {name}(void) {{ return fake_entered("{name}"); }}'
                         for name in rest) + "\n"
    folder = cache_directory() / "fake_driver" / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not (folder / "libcuda.so.1").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            unit, built = Path(scratch) / "driver.c", Path(scratch) / "libcuda.so.1"
            unit.write_text(text)
            subprocess.run([compiler()[0], "-O1", "-shared", "-fPIC", "-Wno-unused-parameter",
                            "-Wl,-soname,libcuda.so.1", str(unit), "-o", str(built), "-ldl"],
                           check=True)
            os.replace(built, folder / "libcuda.so.1")
    return folder


__all__ = ["STAND_IN", "build", "has_pycuda", "missing"]
