"""The bench on a GPU as a guard: one memory-bound operation, timed and checked as ever.

    python -m checks.guard_bench      exit code 1 where a timing has a fault
"""

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from checks import bench_cuda
from ported import device


def guarded() -> int:
    """0 where every version of GELU is timed without a fault in bfloat16."""
    with tempfile.TemporaryDirectory() as folder:
        bench_cuda.evidence.write_timings = lambda *given, **more: None  # no timing of this counts
        return bench_cuda.run(SimpleNamespace(
            size="gpt2", B=16, T=1024, rows=8192, only="gelu_forward", unproved=True, again=True,
            peers=False, write=False, out=str(Path(folder) / "raw.json")),
            device.open("cuda", precision="bfloat16"))


if __name__ == "__main__":
    sys.exit(guarded())
