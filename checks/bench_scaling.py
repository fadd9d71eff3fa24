"""How a step grows with the batch, and what starting up costs at three model sizes.

    python -m checks.bench_scaling

At fixed T the step should take time in proportion to the batch once the products outweigh the
optimizer; start-up is everything but the weights: program, kernels, plan, allocation, binding.
"""

import statistics
import time

import numpy as np

from ported import device, evidence
from ported.executor import Executor, contracts_of, wanted
from reference.programs.gpt2 import gpt2

BATCHES = (8, 16, 32)
SIZES = ("tiny", "d6", "gpt2")
STEPS = 7


def executor_of(size: str, B: int, T: int, machine) -> Executor:
    """An executor on the chosen proved kernels, its weights zero."""
    program = gpt2(size, B, T, fuse="all")
    contracts = contracts_of(program)
    chosen = evidence.choose(wanted(program, contracts), contracts, machine)
    return Executor(program, machine, chosen)


def seconds_a_step(executor: Executor) -> tuple[float, float]:
    """Medians of (zero, forward and backward; update) over random tokens."""
    sizes, draw = executor.program.sizes, np.random.default_rng(0)
    for name, buffer in executor.program.members("parameters").items():
        executor.write(name, 0.02 * draw.standard_normal(buffer.shape, np.float32))
    executor.write("dscale", np.array([1 / sizes["N"]]))
    executor.write("lr", np.array([1e-4]))
    executor.write("t", np.array([1]))
    passes, updates = [], []
    for _ in range(STEPS + 1):
        executor.write("tokens", draw.integers(0, sizes["V"], (sizes["B"], sizes["T"])))
        executor.write("targets", draw.integers(0, sizes["V"], sizes["N"]))
        times = [time.perf_counter()]
        for name in ("zero", "forward", "backward"):
            executor.run(name)
        times.append(time.perf_counter())
        executor.run("update")
        times.append(time.perf_counter())
        passes.append(times[1] - times[0])
        updates.append(times[2] - times[1])
    return statistics.median(passes[1:]), statistics.median(updates[1:])


def main() -> int:
    machine = device.open("cpu")
    print(f"{machine.processor}, {machine.threads} threads\n\nstep of tiny at T=64, by batch")
    rows = []
    for B in BATCHES:
        passes, update = seconds_a_step(executor_of("tiny", B, 64, machine))
        rows.append(passes / B)
        print(f"  B={B:3}  forward and backward {passes * 1e3:8.1f} ms, {passes / B * 1e3:6.2f} ms "
              f"a sequence; update {update * 1e3:6.1f} ms")
    print(f"  time a sequence, largest over smallest: {max(rows) / min(rows):.2f}")
    print("\nstart-up without weights at B=4, T=64")
    for size in SIZES:
        executor_of(size, 4, 64, machine).close()  # compiles what is not in the cache
        start = time.perf_counter()
        executor = executor_of(size, 4, 64, machine)
        seconds = time.perf_counter() - start
        planned = executor.plan.nbytes / 2**20
        print(f"  {size:6} {planned:8.0f} MiB planned in {seconds * 1e3:6.0f} ms")
        executor.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
