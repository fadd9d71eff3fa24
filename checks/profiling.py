"""Where a training step's time goes, by step of the program, and what bounds each.

    python -m checks.profiling [train.py's flags]             table, picture and figures in profile/
    python -m checks.profiling --unproved --device cuda ...   with kernels that have no proof yet

Bytes and operations are those that the contracts require; the ceilings (a copy; on a GPU a large
product, on a processor independent multiply-adds) are measured in the same run. A step whose floor
is below OVERHEAD cannot be told from the launching of it: its bound is called overhead.
"""

import json
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from checks import training_run
from ported import bench
from ported.device import DeviceError
from ported.executor import Executor
from ported.training import report, start
from ported.training.config import Config, parse

PASSES = ("zero", "forward", "backward", "norm", "update")
OVERHEAD = 3e-6  # seconds
WHOLE = 8  # whole steps that are timed
INK, SOFT, MARK = "#1f3a5f", "#c9d6e6", "#c8553d"


@dataclass(frozen=True)
class Row:
    """One step of the program: `seconds` measured, `floor` what its bytes or operations take."""

    step: str
    operation: str
    version: str
    seconds: float
    nbytes: int
    operations: int
    floor: float
    bound: str


def executor_of(config: Config, unproved: bool) -> tuple[Executor, object]:
    """What train.py would run, ready for a step on random tokens."""
    begun = start.begin(config, {})
    device = start.open_device(begun)
    program, _ = start.program_for(begun, device)
    choose = training_run.unproved if unproved else start.kernels_for
    kernels, _ = choose(program, device, begun, print)
    executor = Executor(program, device, kernels)
    parameters, _ = start.tensors(executor)
    for name, value in start.Drawn(parameters.shapes, config.seed, begun.size):
        parameters.write(name, value)
    random = np.random.default_rng(config.seed)
    for name in ("tokens", "targets"):
        shape = program.buffers[name].shape
        executor.write(name, random.integers(0, begun.size.V, shape, dtype=np.int32))
    executor.write("dscale", 1 / (config.batch * config.sequence_length))
    executor.write("lr", 1e-6)
    executor.write("t", 1)
    return executor, device


def whole_step(executor: Executor) -> float:
    """Seconds of one micro-batch's step as training runs it; the median."""
    times = []
    for _ in range(WHOLE + 2):
        executor.synchronize()
        begin = time.perf_counter()
        for name in PASSES:
            executor.run(name)
        executor.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[2:])


def rows_of(executor: Executor, roof: bench.Ceilings) -> list[Row]:
    """Every step of training, timed and measured against its floor."""
    roles, found = executor.device.precision.dtypes, []
    for name in PASSES:
        for bound, (step, version, seconds) in zip(executor.steps(name), executor.profile(name),
                                                   strict=True):
            if bound.contract is None:
                view = bound.step.args["out"]
                nbytes, operations = executor.plan.nbytes_of[view.buffer], 0
            else:
                nbytes = bench.contract_bytes(bound.contract, bound.axes, roles)
                operations = bench.contract_operations(bound.contract, bound.axes) or 0
            floors = roof.floors(nbytes, operations)
            kind = {"memory": "bandwidth", "FMA": "arithmetic"}[max(floors, key=floors.get)]
            floor = max(floors.values())
            found.append(Row(step, bound.step.op, version, seconds, nbytes, operations, floor,
                             kind if floor > OVERHEAD else "overhead"))
    return found


def gathered(rows: list[Row]) -> list[dict]:
    """By version, the costly ones first."""
    found: dict[str, dict] = {}
    for row in rows:
        into = found.setdefault(f"{row.version} {row.bound}", {
            "version": row.version, "operation": row.operation, "bound": row.bound, "steps": 0,
            "seconds": 0.0, "nbytes": 0, "operations": 0, "floor": 0.0})
        into["steps"] += 1
        for name in ("seconds", "nbytes", "operations", "floor"):
            into[name] += getattr(row, name)
    return sorted(found.values(), key=lambda one: -one["seconds"])


def table(groups: list[dict], roof: bench.Ceilings):
    """For the terminal."""
    from rich.table import Table

    whole = sum(one["seconds"] for one in groups)
    made = Table(title="one step, by kernel", title_justify="left")
    made.add_column("kernel")
    for title in ("steps", "ms", "share", "GB/s", "of copy", "TFLOP/s", "of product", "of floor"):
        made.add_column(title, justify="right")
    made.add_column("bound by")
    for one in groups:
        seconds = max(one["seconds"], 1e-9)
        bandwidth, rate = one["nbytes"] / seconds, one["operations"] / seconds
        made.add_row(one["version"], str(one["steps"]), f"{seconds * 1e3:.3f}",
                     f"{seconds / whole:.1%}", f"{bandwidth / 1e9:.0f}",
                     f"{bandwidth / roof.bandwidth:.0%}", f"{rate / 1e12:.3g}" if rate else "",
                     f"{rate / roof.arithmetic:.0%}" if rate else "",
                     f"{one['floor'] / seconds:.0%}", one["bound"])
    return made


def draw(path: Path, groups: list[dict], title: str) -> Path:
    """A bar a kernel: its time, and the part of it that is its floor. Writes a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.32 * len(groups)), layout="constrained")
    axes, places = figure.subplots(), np.arange(len(groups))[::-1]
    milliseconds = [1e3 * one["seconds"] for one in groups]
    axes.barh(places, milliseconds, color=SOFT, label="measured")
    for kind, colour in (("arithmetic", INK), ("bandwidth", MARK), ("overhead", "#888888")):
        mine = [k for k, one in enumerate(groups) if one["bound"] == kind]
        if mine:
            axes.barh([places[k] for k in mine], [1e3 * groups[k]["floor"] for k in mine],
                      height=0.4, color=colour, label=f"floor: {kind}")
    axes.set_yticks(places, [f"{one['version']} x {one['steps']}" for one in groups], fontsize=8)
    axes.set_xlabel("milliseconds in one step")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, color=INK)  # over the names' column too
    axes.legend(loc="lower right", fontsize=8, edgecolor="none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    FigureCanvasAgg(figure).print_png(path)
    return path


def summary(config: Config, executor: Executor, seconds: float, rows: list[Row],
            roof: bench.Ceilings) -> dict:
    """The run's figures: tokens a second, and its operations as shares of two ceilings."""
    sizes, device = executor.program.sizes, executor.device
    shapes = {n: b.shape for n, b in executor.program.members("parameters").items()}
    tokens = sizes["N"] / seconds
    rate = tokens * report.operations(report.parameters_of(shapes, sizes["V"]), sizes)
    sheet = report.peak(device.processor, config.precision)
    return {"device": device.processor, "precision": config.precision, "model": config.model,
            "B": sizes["B"], "T": sizes["T"], "seconds": seconds, "tokens_a_second": tokens,
            "steps_seconds": sum(row.seconds for row in rows), "model_operations_a_second": rate,
            "of_product": rate / roof.arithmetic, "mfu": rate / sheet if sheet else None,
            "bandwidth": sum(row.nbytes for row in rows) / seconds,
            "ceilings": vars(roof), "planned_bytes": executor.plan.nbytes}


def said(found: Mapping) -> str:
    mfu = f", {found['mfu']:.1%} of the data sheet's peak (MFU)" if found["mfu"] else ""
    return (f"{found['model']}, B={found['B']}, T={found['T']}, {found['precision']} on "
            f"{found['device']}: a step {found['seconds'] * 1e3:.2f} ms (its steps one by one "
            f"{found['steps_seconds'] * 1e3:.2f} ms), {found['tokens_a_second']:.0f} tokens/s\n"
            f"ceilings of this run: copy {found['ceilings']['bandwidth'] / 1e9:.0f} GB/s, product "
            f"{found['ceilings']['arithmetic'] / 1e12:.2f} TFLOP/s; the model's operations are "
            f"{found['of_product']:.1%} of that{mfu}; required bytes move at "
            f"{found['bandwidth'] / 1e9:.0f} GB/s")


def profile(config: Config, unproved: bool) -> Path:
    """Prints the table and writes figures and picture; the folder."""
    from rich.console import Console

    executor, device = executor_of(config, unproved)
    if device.name == "cuda":
        from ported import bench_cuda
        roof = bench_cuda.ceilings(device)
    else:
        roof = bench.ceilings(device.threads)
    seconds = whole_step(executor)
    rows = rows_of(executor, roof)
    found, groups = summary(config, executor, seconds, rows, roof), gathered(rows)
    Console(width=None if sys.stdout.isatty() else 130).print(table(groups, roof))
    print(said(found))
    folder = Path(config.out) / "profile"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "profile.json").write_text(json.dumps(
        {**found, "kernels": groups, "steps": [asdict(row) for row in rows]}, indent=1) + "\n")
    draw(folder / "profile.png", groups, said(found).partition("\n")[0])
    print(f"figures and picture: {folder}/profile.json, {folder}/profile.png")
    return folder


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, or 1 where something is refused."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        config, _ = parse([word for word in words if word != "--unproved"])
        profile(config, "--unproved" in words)
    except (ValueError, DeviceError) as error:
        if type(error) is ValueError:
            raise
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
