"""Times every version on a GPU at a training run's shapes, against PyTorch eager and compiled.

Honest timing: random contents; each variant rotates over copies of its buffers that together are
five times the second-level cache; all variants of a shape are sampled in random order round by
round; time is the GPU's own, of graphs that hold a whole rotation. A variant's output after it has
been timed must be, bit for bit, what one fresh call gives (but for what takes half a second a call,
which is timed once and not looked at again). What is faster than the contract's bytes
through the memory's pins, or its operations at the rate of a large product measured in this run, is
a fault of the measuring and fails.
"""

import fnmatch
import gc
import json
import time
from pathlib import Path

import torch

from checks.bench_variants import Variant, time_shape
from ported import bench_cuda, contract, evidence, source
from ported.executor import contracts_of, wanted
from reference.programs.gpt2 import gpt2

ROW = "  {:44} {:>10} {:>8} {:>9} {:>14} {:>10} {:>10} {}"


def shapes(size: str, B: int, T: int, rows: int) -> dict[str, dict[str, tuple]]:
    """By contract, by shape key: (axes, consts) of training steps, fused and plain, with and
    without master weights, the head in chunks of `rows`."""
    chunks = max(1, B * T // rows)
    found: dict[str, dict[str, tuple]] = {}
    for settings in ({"fuse": "all", "master": True}, {}):
        program = gpt2(size, B, T, head_chunks=chunks, **settings)
        contracts = contracts_of(program)
        for key, (name, axes, consts) in wanted(program, contracts).items():
            if axes.get("B", B) == B and axes.get("N", B * T) in (B * T, B * T // chunks):
                found.setdefault(name, {})[key] = (axes, dict(consts))
    sizes = gpt2(size, B, T).sizes | {"O": 4 * gpt2(size, B, T).sizes["C"]}
    for name, of in contract.read_all().items():
        if name not in found and set(of.axes) <= set(sizes):
            axes = {axis: sizes[axis] for axis in of.axes}
            found[name] = {evidence.shape_key(name, axes): (axes, dict(of.consts))}
    return found


def show(timing: dict) -> str:
    """One line of the table; PyTorch's columns say how many times as long it takes."""
    name = " ".join([timing["version"], *(f"{k}={v}" for k, v in timing["parameters"].items())])
    seconds = timing["seconds"]
    rate = f"{timing['operations'] / seconds / 1e12:.1f}" if timing["operations"] else ""
    peers = [f"{timing[k] / seconds:.2f}x" if timing[k] else ""
             for k in ("eager_seconds", "compiled_seconds")]
    speed = f"{timing['bytes'] / seconds / 1e9:.0f}"
    roof = f"{timing['share']:.0%} {timing['roof']}"
    return ROW.format(name[:44], f"{seconds * 1e6:.1f} us", speed, rate, roof, *peers,
                      f"FAULT: {timing['fault']}" if timing["fault"] else "")


def chosen(arguments, machine, contracts) -> list[tuple]:
    """(contract, shape key, axes, consts, its versions) of all that the command line asks for."""
    found = []
    every = source.read_all(language="cu").values()
    wanted_shapes = shapes(arguments.size, arguments.B, arguments.T, arguments.rows)
    patterns = arguments.only.split(",") if arguments.only else ["*"]
    for name, keyed in wanted_shapes.items():
        of = contracts[name]
        if not any(fnmatch.fnmatch(name, p) or fnmatch.fnmatch(of.operation, p) for p in patterns):
            continue
        ladder = [v for v in every if v.contract_name == name
                  and v.supports(machine.precision, of.roles) and (
                      arguments.unproved
                      or evidence.status(v, of, machine.evidence) in ("proved", "stale"))]
        found += [(of, key, *keyed[key], ladder) for key in keyed if ladder]
    return found


def run(arguments, machine) -> int:
    """Times, prints, keeps: raw samples as JSON, after each shape; timings as evidence. What the
    file has already, of the same versions, is not timed again. The exit code: 1 for any fault."""
    contracts = contract.read_all()
    path = Path(arguments.out or f"runs/bench-{machine.precision.name}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = json.loads(path.read_text()) if path.is_file() and not arguments.again else {}
    torch.set_float32_matmul_precision("high" if machine.precision.name == "tf32" else "highest")
    roof = bench_cuda.ceilings(machine)
    pins = f", the memory's pins {roof.peak / 1e9:.0f} GB/s" if roof.peak else ""
    print(f"{machine.processor}, {machine.precision.name}: copy {roof.bandwidth / 1e9:.0f} GB/s, "
          f"product {roof.arithmetic / 1e12:.1f} TFLOP/s{pins}")
    faults = 0
    for of, key, axes, consts, ladder in chosen(arguments, machine, contracts):
        meanings = {v.name: evidence.meaning(v, of) for v in ladder}
        if raw.get(key, {}).get("meanings") == meanings:
            print(f"{key}: {len(meanings)} versions at hand in {path}")
            continue
        begin = time.perf_counter()
        records, variants = time_shape(of, axes, consts, ladder, machine, roof, arguments.peers)
        raw[key] = {"meanings": meanings, "records": records, "variants": [
            {"name": v.name, "samples": v.samples, "fault": v.fault} for v in variants]}
        evidence.store(path, raw)
        report(key, records, variants, time.perf_counter() - begin)
        faults += sum(bool(one["fault"]) for one in records)
        keep(records, ladder, of, machine, arguments)
        del variants
        gc.collect()
        torch.cuda.empty_cache()
    print(f"raw samples: {path}" + (f"; {faults} FAULTS" if faults else ""))
    return 1 if faults else 0


def report(key: str, records: list[dict], variants: list[Variant], seconds: float) -> None:
    print(f"{key}   ({seconds:.1f} s)\n" + ROW.format(
        "", "time", "GB/s", "TFLOP/s", "roofline", "eager", "compiled", ""))
    for one in sorted(records, key=lambda r: (r["version"], r["seconds"])):
        print(show(one))
    for one in variants:
        if one.fault and not one.samples:
            print(f"  {one.name}: not timed: {one.fault}")
    print(flush=True)


def keep(records: list[dict], ladder: list, of, machine, arguments) -> None:
    """The quickest sound configuration of each version, for `choose`."""
    for version in ladder:
        mine = [r for r in records if r["version"] == version.name and not r["fault"]]
        if mine:
            best = min(mine, key=lambda r: r["seconds"])
            evidence.write_timings(version, of, machine.evidence,
                                   [best | {"label": arguments.size}], committed=arguments.write)
