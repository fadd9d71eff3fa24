"""Times every version of every operation against PyTorch, then one training step of GPT-2 124M.

    python -m checks.bench                    the table, then the step
    python -m checks.bench --only 'gelu_*'    some operations, no step
    python -m checks.bench --write            and the committed evidence gets the timings
    python -m checks.bench --device cuda --dtype bfloat16 [--step]    on a GPU: see bench_cuda,
                                              bench_step_cuda
    python -m checks.bench --tune             the proved versions at train.py's default shapes; the
                                              timings go to the user's cache, the trainer reads them
"""

import argparse
import fnmatch
import importlib
import os
import platform
import statistics
import sys
import time
from math import prod

import numpy as np
import torch

from checks import bench_host, cases, torch_on_gpu
from ported import bench, device, evidence, source
from ported.contract import read_all
from ported.executor import wanted
from ported.precision import PRECISIONS
from reference.programs.gpt2 import gpt2

SEGMENTS = 1 << 16  # of AdamW's region, at most: 16.8 million elements, 64 MB a tensor
PEER = f"PyTorch {torch.__version__}"
ROW = "{:30} {:>11} {:>8} {:>9} {:>14} {:>17} {}"


def shapes(size: str, B: int, T: int, contracts: dict) -> dict[str, dict[str, dict]]:
    """For each contract the axes to time it at, by shape key: those of the fused program and of the
    plain one; an operation that is in neither takes the program's sizes, O = 4 C."""
    programs = [gpt2(size, B, T, fuse="all"), gpt2(size, B, T)]
    found: dict[str, dict[str, dict]] = {}
    for program in programs:
        for key, (name, axes, *_) in wanted(program, contracts).items():
            if axes.get("B", B) == B and axes.get("N", B * T) == B * T:
                found.setdefault(name, {})[key] = axes
    sizes = programs[0].sizes | {"O": 4 * programs[0].sizes["C"]}
    for name, contract in contracts.items():
        if name not in found and set(contract.axes) <= set(sizes):
            axes = {axis: sizes[axis] for axis in contract.axes}
            found[name] = {evidence.shape_key(name, axes): axes}
    for keyed in found.values():
        for axes in keyed.values():
            if "S" in axes:
                axes["S"] = min(axes["S"], SEGMENTS)
    return found


def drawn(contract, axes: dict[str, int], seed: int = 0) -> dict:
    """The arguments of one timed call: random, never zeros."""
    complete = {"Vp": axes.get("Vp"), "V": axes.get("V") or axes.get("Vp"), **axes}
    order = tuple((axis, complete[axis]) for axis in cases.axes_of(contract))
    return cases.draw(cases.Case(contract.name, order, seed * 3), contract).inputs


def rotation(contract, axes) -> int:
    """How many copies of an operation's buffers outgrow the private caches."""
    return bench.copies(sum(4 * prod(tensor.shape(axes)) for tensor in contract.tensors),
                        os.cpu_count() or 1)


def our_calls(version, parameters, contract, axes, inputs, machine, keep: list,
              count: int = 0) -> list:
    """A version's calls, one for each copy of its buffers (`count`, or as many as outgrow the
    caches); `keep` holds the memory alive."""
    kernel = machine.load(version, contract, axes, parameters)
    scratch = {name: np.zeros(shape, np.float32) for name, (_, shape, _) in kernel.scratch.items()}
    calls = []
    for _ in range(count or rotation(contract, axes)):
        arrays = {t.name: np.array(inputs[t.name]) if t.name in inputs
                  else np.zeros(t.shape(axes), np.float32) for t in contract.tensors}
        keep.append((arrays, scratch))
        addresses = {name: a.ctypes.data for name, a in (*arrays.items(), *scratch.items())}
        calls.append(kernel.bind(addresses, {n: inputs[n] for n in contract.consts}))
    return calls


def torch_calls(contract, axes, inputs, forward_inputs) -> list:
    """PyTorch's calls for the same operation: eager forward, or autograd's backward alone."""
    stock = importlib.import_module(f"reference.stock.{contract.operation}")
    make = getattr(stock, f"timed_{contract.direction}", None)
    calls = []
    for _ in range(rotation(contract, axes)):
        given = {name: tensor(value) for name, value in inputs.items()}
        if make is not None:
            calls.append(make(**given))
        elif contract.direction == "backward":
            calls.append(backward_call(stock, contract, given, forward_inputs))
        else:
            calls.append(no_grad(getattr(stock, contract.direction), given))
    return calls


def tensor(value):
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


def no_grad(function, given):
    def call():
        with torch.no_grad():
            return function(**given)
    return call


def backward_call(stock, contract, given, forward_inputs):
    """Autograd's backward of the stock forward, its graph kept."""
    leaves = {name: tensor(value) for name, value in forward_inputs.items()}
    wanted_by = [name for t in contract.outputs if (name := t.name[1:]) in leaves]
    for name in wanted_by:
        leaves[name].requires_grad_()
    out = stock.forward(**leaves)
    out = out if isinstance(out, dict) else out._asdict()
    pairs = [(out[n], given[f"d{n}"]) for n in out if f"d{n}" in given and out[n].requires_grad]
    outputs, gradients = zip(*pairs, strict=True)
    leaves_of = [leaves[name] for name in wanted_by]
    return lambda: torch.autograd.grad(outputs, leaves_of, gradients, retain_graph=True)


def time_shape(contract, axes, versions, machine, roof) -> list[dict]:
    """Timing records of `versions` at one shape, PyTorch's time in each."""
    forward = cases.forward_of(contract)
    inputs, others = drawn(contract, axes), drawn(contract, axes, seed=1)
    behind = drawn(forward, complete_forward(forward, axes)) if forward else None
    ours: dict[str, bench_host.Timed] = {}
    variants = {PEER: torch_calls(contract, axes, inputs, behind)}
    variants[bench.NOISE] = variants[PEER]
    for version in versions:
        for parameters in version.configurations():
            if not version.unmet_needs({**axes, **parameters, "threads": machine.threads}):
                name = " ".join([version.name, *(f"{k}={v}" for k, v in parameters.items())])
                ours[name] = bench_host.prepared(version, parameters, contract, axes, inputs,
                                                 others, machine)
                variants[name] = ours[name].calls
    samples = bench.interleave(variants)
    noise = bench.ratio(samples[bench.NOISE], samples[PEER]).median
    found = []
    for version in versions:
        for parameters in version.configurations():
            name = " ".join([version.name, *(f"{k}={v}" for k, v in parameters.items())])
            if name in samples:
                fault = bench_host.fault(ours.pop(name), contract, inputs)
                found.append(record(version, parameters, contract, axes, samples[name],
                                    samples[PEER], noise, machine, roof, fault))
    return found


def complete_forward(forward, axes):
    return {axis: axes[axis] for axis in forward.axes if axis in axes} | (
        {"V": axes["Vp"]} if "V" in forward.axes and "V" not in axes else {})


def record(version, parameters, contract, axes, samples, peer, noise, machine, roof,
           fault: str = "") -> dict:
    """One timing as the evidence keeps it; seconds are medians over the rounds. `fault`: why it
    does not count; a time below the floor is one as well."""
    seconds = statistics.median(samples)
    nbytes = bench.contract_bytes(contract, axes)
    operations = bench.contract_operations(contract, axes)
    share, bound_by = roof.share(nbytes, operations, seconds)
    ratio = bench.ratio(samples, peer)
    return {"version": version.name, "device": machine.processor, "threads": machine.threads,
            "axes": dict(axes), "parameters": dict(parameters), "seconds": seconds,
            "samples": [float(f"{s:.4g}") for s in samples], "peer": PEER,
            "peer_seconds": statistics.median(peer), "ratio": ratio.median,
            "verdict": ratio.verdict(noise), "share": round(share, 4), "roof": bound_by,
            "bytes": nbytes, "operations": operations, "ceilings": vars(roof),
            "fault": fault or roof.beaten(nbytes, operations, seconds),
            "date": time.strftime("%Y-%m-%d")}


def show(timing: dict) -> str:
    """One line of the table."""
    name = " ".join([timing["version"], *(f"{k}={v}" for k, v in timing["parameters"].items())])
    seconds = timing["seconds"]
    gigaflops = f"{timing['operations'] / seconds / 1e9:.1f}" if timing["operations"] else ""
    return ROW.format(name, f"{seconds * 1e6:.1f} us", f"{timing['bytes'] / seconds / 1e9:.1f}",
                      gigaflops, f"{timing['share']:.0%} {timing['roof']}",
                      f"{timing['peer_seconds'] / seconds:.2f}x {timing['verdict']}",
                      f"FAULT: {timing['fault']}" if timing["fault"] else
                      "" if len(timing["samples"]) > 1 else "(one sample)")


def operations(arguments, machine) -> int:
    """Times every operation that matches and prints its table; how many timings have a fault."""
    contracts = read_all()
    versions = source.read_all()
    roof = bench.ceilings(machine.threads)
    print(f"{machine.processor}, {machine.threads} threads, {PEER}, Python "
          f"{platform.python_version()}\nceilings now: copy {roof.bandwidth / 1e9:.1f} GB/s, "
          f"float32 multiply-add {roof.arithmetic / 1e9:.0f} GFLOP/s; "
          "x: PyTorch's time over ours\n")
    faults = 0
    for name, keyed in sorted(shapes(arguments.size, arguments.B, arguments.T, contracts).items()):
        ladder = [v for v in versions.values() if v.contract_name == name]
        if arguments.tune:
            ladder = [v for v in ladder if evidence.status(v, contracts[name], machine.evidence)
                      in ("proved", "stale") and (v.number > 1 or len(ladder) == 1)]
        if not ladder or not fnmatch.fnmatch(name, arguments.only or "*"):
            continue
        for key, axes in keyed.items():
            print(f"{key}\n" + ROW.format("", "time", "GB/s", "GFLOP/s", "roofline", "PyTorch", ""))
            timings = time_shape(contracts[name], axes, ladder, machine, roof)
            print("\n".join(show(timing) for timing in timings) + "\n", flush=True)
            faults += sum(bool(timing["fault"]) for timing in timings)
            if arguments.tune or arguments.write:
                store(timings, versions, contracts[name], machine, arguments)
    return faults


def store(timings, versions, contract, machine, arguments) -> None:
    """Keeps the best sound configuration of each version."""
    sound = [timing for timing in timings if not timing["fault"]]
    for name in dict.fromkeys(timing["version"] for timing in sound):
        best = min((t for t in sound if t["version"] == name), key=lambda t: t["seconds"])
        evidence.write_timings(versions[name], contract, machine.evidence,
                               [best | {"label": arguments.size}], committed=arguments.write)


def training_step(arguments) -> None:
    """One step of GPT-2 124M, both sides in turn, with the memory of both and our parts."""
    from checks import bench_step

    found = bench_step.measure("gpt2", 4, 64, arguments.threads, arguments.steps)
    ours, theirs = found["ported"], found["torch"]
    ratio = bench.ratio(theirs["seconds"], ours["seconds"])
    print(f"one training step of GPT-2 124M, B=4, T=64, float32, {arguments.threads} threads, "
          f"{len(ours['seconds'])} steps of each in turn (forward, backward, clipping, AdamW)")
    for name, side in (("Trivium", ours), (f"{PEER} eager", theirs)):
        seconds = statistics.median(side["seconds"])
        print(f"  {name:22} {seconds * 1e3:8.1f} ms  {256 / seconds:8.1f} tokens/s  "
              f"peak memory {side['peak'] / 2**20:7.0f} MiB")
    print(f"  tokens/s against PyTorch: {ratio.median:.3f} (95 %: {ratio.low:.3f} to "
          f"{ratio.high:.3f}); peak memory: {ours['peak'] / theirs['peak']:.3f}")
    print("  parts of our step:")
    for name, (seconds, count) in parts(ours["parts"]).items():
        print(f"    {name:34} {seconds * 1e3:8.1f} ms in {count} steps")


def parts(profiled: dict[str, list]) -> dict[str, tuple[float, int]]:
    """Seconds and steps by version, the costly ones first."""
    found: dict[str, tuple[float, int]] = {}
    for rows in profiled.values():
        for _, version, seconds in rows:
            before = found.get(version, (0.0, 0))
            found[version] = (before[0] + seconds, before[1] + 1)
    return dict(sorted(found.items(), key=lambda item: -item[1][0]))


def on_cuda(parser) -> None:
    """The flags of a bench on a GPU."""
    group = parser.add_argument_group("on a GPU")
    group.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    group.add_argument("--dtype", default="bfloat16", choices=tuple(PRECISIONS))
    group.add_argument("--rows", type=int, default=8192, help="of the head at a time")
    group.add_argument("--unproved", action="store_true", help="versions without a proof too")
    group.add_argument("--no-peers", dest="peers", action="store_false", help="without PyTorch")
    group.add_argument("--out", default="", help="raw samples (default runs/bench-DTYPE.json)")
    group.add_argument("--again", action="store_true", help="time what the file has already")
    group.add_argument("--peer", action="store_true", help="the step of any size against PyTorch")
    group.add_argument("--sides", default="torch", help="PyTorch's: torch, torch_cudnn or both")
    group.add_argument("--train", default="", help="more of train.py's flags for our step")


def bench_on_cuda(arguments) -> int:
    """The operations, or with --step one training step."""
    arguments.size = arguments.size or "gpt2"
    arguments.batch, arguments.B, arguments.T = arguments.B, arguments.B or 64, arguments.T or 1024
    if arguments.step:  # its workers open the device, each its own
        from checks import bench_step_cuda

        torch_on_gpu.require()
        return bench_step_cuda.run(arguments)
    from checks import bench_cuda

    machine = device.open("cuda", precision=arguments.dtype)
    torch_on_gpu.require()
    return bench_cuda.run(arguments, machine)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="operations by name or glob, without the step")
    parser.add_argument("--step", action="store_true", help="the training step alone")
    parser.add_argument("--steps", type=int, default=7, help="steps of each side (default 7)")
    parser.add_argument("--tune", action="store_true", help="measure for the trainer's choice")
    parser.add_argument("--write", action="store_true", help="keep timings as committed evidence")
    parser.add_argument("--size", "--model", default="",
                        help="model size (default gpt2; with --tune: tiny)")
    parser.add_argument("--B", type=int, default=0, help="batch (default 4; --tune: train.py's)")
    parser.add_argument("--T", type=int, default=0, help="length (default 64)")
    parser.add_argument("--threads", type=int, default=0, help="OpenMP threads (default: all)")
    on_cuda(parser)
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        return bench_on_cuda(arguments)
    machine = device.open("cpu", threads=arguments.threads or None)
    arguments.threads = machine.threads
    torch.set_num_threads(machine.threads)
    if arguments.tune:
        from ported.training.config import Config

        default = Config()
        arguments.size = arguments.size or default.model
        arguments.B = arguments.B or default.micro_batch or default.batch
        arguments.T = arguments.T or default.sequence_length
    arguments.size = arguments.size or "gpt2"
    arguments.B, arguments.T = arguments.B or 4, arguments.T or 64
    faults = 0 if arguments.step else operations(arguments, machine)
    if not (arguments.tune or arguments.only):
        training_step(arguments)
    return 1 if faults else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except device.DeviceError as error:
        sys.exit(f"error: {error}")
