"""The bench on a GPU as a guard: one memory-bound operation, timed and checked as ever, and one
small enough for a cache, in a rotation as the bench makes it and in a much longer one.

    python -m checks.guard_bench      exit code 1 where a timing has a fault, or a
                                      rotation stays in the cache
"""

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

from checks import bench_cuda, bench_variants
from ported import bench, contract, device, source

SMALL = {"N": 512, "C": 3072}  # 6 MB a copy in bfloat16: eight of them fit an H200's cache
MANY, ROUNDS = 48, 9  # copies; samples of each, the least counts
QUICKER = 0.92  # of the time of a rotation that no cache holds


def stays(machine) -> bool:
    """Whether a rotation at SMALL is quicker than a much longer one, and so stays in the cache."""
    of, version = contract.of("gelu_forward"), source.read_all(language="cu")["gelu_forward_01"]
    usual, samplers = bench_variants.CALLS, []
    shapes = []  # own the memory
    for calls in (usual, MANY):
        bench_variants.CALLS = calls
        shapes.append(bench_variants.Shape(of, SMALL, {}, machine, bench.Ceilings(1e13, 1e16)))
        samplers.append(shapes[-1].ours(version, version.configurations()[0]).sample)
    bench_variants.CALLS = usual
    few, many = map(min, zip(*([sample() for sample in samplers] for _ in range(ROUNDS)),
                             strict=True))
    print(f"{len(shapes[0].copies)} copies of a small shape: {few * 1e6:.2f} us, "
          f"{len(shapes[1].copies)}: {many * 1e6:.2f} us")
    return few < QUICKER * many


def guarded() -> int:
    """0 where every version of GELU is timed without a fault in bfloat16, out of the cache."""
    machine = device.open("cuda", precision="bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        bench_cuda.evidence.write_timings = lambda *given, **more: None  # no timing of this counts
        code = bench_cuda.run(SimpleNamespace(
            size="gpt2", B=16, T=1024, rows=8192, only="gelu_forward", unproved=True, again=True,
            peers=False, write=False, out=str(Path(folder) / "raw.json")),
            machine)
    return code or int(stays(machine))


if __name__ == "__main__":
    sys.exit(guarded())
