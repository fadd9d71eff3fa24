"""Times a proved file against PyTorch and the roofline, in a process of its own.

    python -m checks.verify_timing JOB.json ANSWER.json

Before its time is taken a kernel is judged at the timed shape; after it, each timed call is made
once more, on the numbers that were judged and never timed, and must leave the judged output, bit
for bit (under no claim of determinism: as long a vector; bench_host.py). On a processor the shapes
are those of GPT-2 124M at B=4, T=64; on a GPU at B=64, T=1024.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from checks import bench, bench_host, cases, memory_checks
from checks.cases import Case, axes_of
from checks.run_shape import FAMILY, SEGMENTS
from checks.trial import Broken, Ledger, Subject, Trial
from ported import bench as honest
from ported import contract as contracts
from ported import device as devices
from ported import source

SLOW = 0.3  # seconds: a kernel whose call takes longer is sampled once
MODEL, ROWS = "gpt2", 8192  # the model, and rows of its head at a time on a GPU
SIZES = {"cpu": (4, 64), "cuda": (64, 1024)}  # B and T


def shapes(contract, device: str, asked: dict[str, int] | None) -> list[dict[str, int]]:
    """Axes to time at: those asked for, or GPT-2's own."""
    if asked:
        return [asked]
    every = {contract.name: contract} | contracts.read_all()
    if device == "cpu":
        found = bench.shapes(MODEL, *SIZES[device], every).get(contract.name, {})
    else:
        from checks import bench_cuda

        keyed = bench_cuda.shapes(MODEL, *SIZES[device], ROWS).get(contract.name, {})
        found = {key: axes for key, (axes, _) in keyed.items()}
    return [{**axes, **({"S": min(axes["S"], SEGMENTS)} if "S" in axes else {})}
            for axes in found.values()]


def judged(version, contract, device, axes, parameters, ledger: Ledger):
    """(trial, first result) at the timed axes, or None where it was refused there."""
    every = {"V": axes.get("Vp"), "Vp": axes.get("V"), **axes}  # a forward may need the other
    ordered = tuple((axis, int(every[axis])) for axis in axes_of(contract))
    subject = Subject(version, contract, device, parameters, ledger)
    before = len(ledger.faults)
    try:
        trial = Trial(subject, Case(contract.name, ordered, 0, FAMILY, device.precision.name))
        first = memory_checks.base(trial)
        memory_checks.quick(trial, first)
    except Broken:
        return None
    return (trial, first) if len(ledger.faults) == before else None


def on_cpu(version, contract, axes, machine, roof, ledger: Ledger) -> list[dict]:
    """Timing records of every configuration that applies and is accepted at this shape."""
    ours, inputs = {}, bench.drawn(contract, axes, seed=1)
    for parameters in version.configurations():
        if version.unmet_needs({**axes, **parameters, **machine.values}):
            ledger.not_run["timed shapes that the file's needs exclude"] += 1
            continue
        here = judged(version, contract, machine, axes, parameters, ledger)
        if here:
            trial, first = here
            memory: list = []
            calls = bench.our_calls(version, parameters, contract, axes, inputs, machine, memory)
            calls[0]()  # warms code and pages: a first call may look slow
            ours[" ".join(f"{k}={v}" for k, v in parameters.items()) or "ours"] = bench_host.Timed(
                version, parameters, calls, memory, trial.inputs, first.outputs)
    if not ours:
        return []
    forward = cases.forward_of(contract)
    behind = bench.drawn(forward, bench.complete_forward(forward, axes)) if forward else None
    peers = bench.torch_calls(contract, axes, inputs, behind)
    variants = {bench.PEER: peers, honest.NOISE: peers} | {n: t.calls for n, t in ours.items()}
    samples = honest.interleave(variants, slow=SLOW)
    theirs = samples[bench.PEER]
    noise = honest.ratio(samples[honest.NOISE], theirs).median
    found = []
    for name, timed in ours.items():
        fault = bench_host.fault(timed, contract, inputs)
        record = bench.record(version, timed.parameters, contract, axes, samples[name], theirs,
                              noise, machine, roof, fault)
        found.append({**entry(record, "different" if fault else "equal"),
                      "peer_samples": [float(f"{s:.4g}") for s in theirs]})
    return found


def entry(record: dict, digest: str) -> dict:
    """A timing record as the report keeps it."""
    peers = {f"{record['peer']} {name}": record.get(f"{name}_seconds")
             for name in ("eager", "compiled")}
    if not any(peers.values()):
        peers = {record["peer"]: record["peer_seconds"]}
    kept = ("axes", "parameters", "seconds", "samples", "ratio", "verdict", "share", "roof",
            "bytes", "operations", "ceilings", "threads", "date")
    return {**{name: record[name] for name in kept}, "processor": record["device"],
            "peers": {name: s for name, s in peers.items() if s}, "digest": digest,
            "fault": record["fault"]}


def on_cuda(version, contract, axes, machine, roof, ledger: Ledger) -> list[dict]:
    """Timing records on the GPU; bench_variants compares the digests."""
    from checks.bench_variants import time_shape
    from checks.known import forget

    parameters = machine.configurations(version, contract, axes)[0]
    here = judged(version, contract, machine, axes, parameters, ledger)
    forget()
    if not here:
        return []
    records, variants = time_shape(contract, axes, {}, [version], machine, roof, True)
    for variant in variants:
        if variant.fault and not variant.samples:
            ledger.not_run[f"{variant.name}: not timed: {variant.fault}"] += 1
    return [entry(record, "different" if "differs" in record["fault"] else "equal")
            for record in records]


def answer(job: dict) -> dict:
    """{"timings": [...], "faults": [...], "not_run": {...}} of a job: `path`, `operation`,
    `direction`, `directives`, `device`, `dtype`, `axes`."""
    version = source.read(Path(job["path"]), job["operation"], job["direction"],
                          job["directives"])
    contract = contracts.of(version.contract_name)
    machine = devices.open(job["device"], precision=job["dtype"])
    ledger, timings = Ledger(), []
    if job["device"] == "cpu":
        torch.set_num_threads(machine.threads)
        roof = honest.ceilings(machine.threads)
    else:
        from ported import bench_cuda

        torch.set_float32_matmul_precision("high" if job["dtype"] == "tf32" else "highest")
        roof = bench_cuda.ceilings(machine)
    measure = on_cpu if job["device"] == "cpu" else on_cuda
    for axes in shapes(contract, job["device"], job["axes"]):
        timings += measure(version, contract, axes, machine, roof, ledger)
    return {"timings": timings, "faults": [asdict(f) for f in ledger.faults],
            "not_run": dict(ledger.not_run)}


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(answer(json.loads(Path(sys.argv[1]).read_text()))))
