"""Runs a few lines on the recording driver, in a process of their own, and reads the record.

The driver is `driver.c`: memory is the host's, copies happen, kernels do not. So nothing that is
tested this way says that a kernel is right; it says what the host asked for.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from checks.fake_driver import build

ROOT = Path(__file__).resolve().parent.parent.parent
REASON = build.missing()
recorded = pytest.mark.skipif(REASON is not None, reason=f"cuda's host side: {REASON}")
WAITS = re.compile(r"cu(CtxSynchronize|StreamSynchronize|EventSynchronize|StreamQuery|EventQuery"
                   r"|MemcpyHtoD_v2|MemcpyDtoH\w*|MemAlloc\w*|MemFree\w*)\b")

HEAD = """
import ctypes, os, sys
from pathlib import Path
import numpy as np
from ported import binding, contract, device as devices, source
from ported.device import cuda, cuda_code
folder = Path(sys.argv[1])
cuda_code.nvcc = lambda: ("nvcc", "recorded")
cuda.nvcc_version = lambda: "13.0"
def fake_cubin(version, precision, values, architecture, extra=()):
    path = folder / f"{version.name}-{architecture}-{precision.name}-{values}"
    path.write_bytes(b"machine code")
    return path
cuda_code.cubin = fake_cubin
def mark(text):
    ctypes.CDLL("libcuda.so.1").fake_mark(text.encode())
def version(text, suffix="cu"):
    path = folder / f"forward_01_x.{suffix}"
    path.write_text(text)
    return source.read(path, "gelu", "forward")
def loaded(device, text, axes=None, parameters=None, suffix="cu"):
    file = version(text, suffix)
    return device.load(file, contract.of("gelu_forward"), axes or {"N": 3, "C": 100},
                       parameters or {})
GELU = '''//@ block 128
//@ grid ceil_div(N * C, block)
extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C) {}
'''
"""


def run(body: str, folder: Path, settings: str = "", stand_in: bool = not build.has_pycuda(),
        **environment):
    """(exit code, output, errors, lines of the record) of a script on the recording driver."""
    log = folder / "log"
    log.unlink(missing_ok=True)
    places = [str(build.STAND_IN)] if stand_in else []
    places += [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "FAKE_DRIVER_LOG": str(log),
             "FAKE_DRIVER": settings, "TRIVIUM_TRACE": "0",
             "LD_LIBRARY_PATH": str(build.build()), **environment}
    done = subprocess.run([sys.executable, "-c", HEAD + textwrap.dedent(body), str(folder)],
                          cwd=ROOT, env=given, capture_output=True, text=True, timeout=120)
    lines = log.read_text().splitlines() if log.exists() else []
    return done.returncode, done.stdout, done.stderr, lines


def passed(body: str, folder: Path, settings: str = "", **environment):
    """What a script printed as JSON, and the record; it must end well."""
    code, out, errors, lines = run(body, folder, settings, **environment)
    assert code == 0, errors
    assert not errors, errors
    return json.loads(out) if out else None, lines


def after(lines: list[str], mark: str) -> list[str]:
    """The record between a mark and the next."""
    rest = lines[lines.index(f"-- {mark}") + 1:]
    return rest[:next((k for k, line in enumerate(rest) if line.startswith("-- ")), len(rest))]


__all__ = ["WAITS", "after", "passed", "recorded", "run"]
