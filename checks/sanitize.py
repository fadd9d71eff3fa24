"""compute-sanitizer over every CUDA version: memcheck, racecheck, initcheck, synccheck.

    python -m checks.sanitize --dtype bfloat16                    all versions, all four tools
    python -m checks.sanitize --kernel 'layernorm_*' --out FILE   some, and what was found as JSON

A child process launches each version at a few small shapes, every buffer in an allocation of its
own size, outputs and scratch not written before; the tools watch it. Where a tool finds faults,
each version is run alone under it, so that a fault blames only its own. Exit code 0: nothing found.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from checks import select
from checks.cases import draw
from checks.shapes import HOME, Shapes
from ported import contract as contracts
from ported import device as devices
from ported import source
from ported.contract import ROOT
from ported.precision import PRECISIONS, encode

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
PLACES = (HOME, "tile", "over")
SECONDS = 400.0
FAULT = 7  # exit code that the tools are told to end with


def launch(names: list[str], precision: str) -> None:
    """The child: every version once at each of PLACES, in memory of exactly its sizes."""
    device = devices.open("cuda", precision=precision)
    for name in names:
        version, contract = select.read(name, device.language)
        shapes = Shapes(version, contract, device)
        spine = shapes.spine()
        cases = [shapes._case(spine[place], 1, "randn") for place in PLACES if place in spine]
        done = 0
        for case in cases:
            done += _launch(device, version, contract, case)
        print(f"launched {name} {done}", flush=True)


def _launch(device, version, contract, case) -> int:
    parameters = next((p for p in version.configurations() if not version.unmet_needs(
        {**case.sizes, **p, **device.values})), None)
    if parameters is None:
        return 0
    axes = {axis: case.sizes[axis] for axis in contract.axes}
    kernel = device.load(version, contract, axes, parameters)
    drawn, held, addresses = draw(case, contract).inputs, [], {}
    for tensor in contract.tensors:
        dtype, shape = device.precision.dtypes[tensor.role], tensor.shape(axes)
        raw = device.driver.mem_alloc(max(encode(_zeros(shape), dtype).nbytes, 1))
        held.append(raw)
        addresses[tensor.name] = int(raw)
        if tensor.access != "out":
            given = drawn[tensor.name] if tensor.name in drawn else _zeros(shape)
            device.write(int(raw), encode(given, dtype))
    for name, (dtype, shape, _) in kernel.scratch.items():
        held.append(device.driver.mem_alloc(max(encode(_zeros(shape), dtype).nbytes, 1)))
        addresses[name] = int(held[-1])
    consts = {name: drawn[name] for name in contract.consts if name in drawn}
    kernel.bind(addresses, consts)()
    device.synchronize()
    return 1


def _zeros(shape):
    import numpy as np

    return np.zeros(shape, np.float32)


def watch(tool: str, names: list[str], precision: str) -> dict:
    """What one tool says of a child that launches `names`."""
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", str(FAULT),
               "--print-limit", "20", sys.executable, "-m", "checks.sanitize", "--launch",
               ",".join(names), "--dtype", precision]
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
        text, code = result.stdout + result.stderr, result.returncode
    except subprocess.TimeoutExpired as error:
        text, code = (error.stdout or b"").decode(errors="replace"), "timed-out"
    launched = dict(re.findall(r"^launched (\w+) (\d+)$", text, re.M))
    errors = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", text)
    clean = code == 0 and errors == ["0"] and all(int(launched.get(n, 0)) for n in names)
    said = [line for line in text.splitlines() if "=========" in line][:60]
    return {"clean": clean, "code": code, "launched": launched, "said": [] if clean else said,
            "tail": [] if clean else text.splitlines()[-6:]}


def examine(names: list[str], precision: str) -> dict[str, dict[str, str]]:
    """Of each version what each tool found: clean, or the head of its report."""
    groups = [names[k::4] for k in range(4) if names[k::4]]
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    with ThreadPoolExecutor(8) as pool:
        jobs = {(tool, k): pool.submit(watch, tool, group, precision)
                for tool in TOOLS for k, group in enumerate(groups)}
        alone = {}
        for (tool, k), job in jobs.items():
            if job.result()["clean"]:
                found |= {n: found[n] | {tool: "clean"} for n in groups[k]}
            else:
                alone |= {(tool, n): pool.submit(watch, tool, [n], precision) for n in groups[k]}
        for (tool, name), job in alone.items():
            one = job.result()
            found[name][tool] = "clean" if one["clean"] else "\n".join(
                [f"code {one['code']}", *one["said"][:25], *one["tail"]])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m checks.sanitize")
    parser.add_argument("--kernel", default="*", help="names or globs, parted by commas")
    parser.add_argument("--dtype", default="bfloat16", choices=list(PRECISIONS))
    parser.add_argument("--out", help="JSON file for what was found")
    parser.add_argument("--launch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.launch:
        launch(options.launch.split(","), options.dtype)
        return 0
    if shutil.which("compute-sanitizer") is None:
        raise SystemExit("found no compute-sanitizer on PATH; it comes with CUDA's toolkit")
    precision = PRECISIONS[options.dtype]
    known = source.read_all(language="cu")
    versions = {name: known[name] for name in select.matching(options.kernel, "cu")}
    names = [name for name, v in versions.items()
             if v.supports(precision, contracts.of(v.contract_name).roles)]
    found = examine(names, options.dtype)
    faults = {f"{name} {tool}": said for name, tools in found.items()
              for tool, said in tools.items() if said != "clean"}
    for place, said in faults.items():
        print(f"{place}:\n{said}")
    print(f"{len(found)} versions in {options.dtype}, {len(TOOLS)} tools: {len(faults)} faults; "
          f"{len(versions) - len(names)} versions are not of this dtype")
    if options.out:
        Path(options.out).write_text(json.dumps(found, indent=1) + "\n")
    return 1 if faults or not found else 0


if __name__ == "__main__":
    sys.exit(main())
