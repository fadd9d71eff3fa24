"""compute-sanitizer over every CUDA version: memcheck, racecheck, initcheck, synccheck.

    python -m checks.sanitize --dtype bfloat16                    all versions, all four tools
    python -m checks.sanitize --kernel 'layernorm_*' --out FILE   some, and what was found as JSON

A child process launches each version at a few small shapes, every buffer in an allocation of its
own size, outputs and scratch not written before; the tools watch it. Where a tool finds faults,
each version is run alone under it, so that a fault blames only its own. Exit code 0: nothing found.

Of versions that call a vendor's library two things differ. Outputs and scratch are written before
under initcheck, which does not see what a library's kernels store in bulk. And what is said of a
library's own kernels, which nobody here can mend, is told apart: their reports name no line of a
source, and ours, compiled with lines, do.
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

# Libraries ask the driver for functions that it may lack: not an error; ours are all looked at.
TOOLS = {"memcheck": ("--report-api-errors", "no"), "racecheck": (), "initcheck": (),
         "synccheck": ()}
PLACES = (HOME, "tile", "over")
SECONDS = 400.0
FAULT = 7  # exit code that the tools are told to end with
THEIRS = "in the library's own kernels: "


def launch(names: list[str], precision: str, written: bool) -> None:
    """The child: every version once at each of PLACES, in memory of exactly its sizes. `written`:
    of a library's version, what it leaves is zeros before."""
    device = devices.open("cuda", precision=precision)
    for name in names:
        version, contract = select.read(name, device.language)
        shapes = Shapes(version, contract, device)
        spine = shapes.spine()
        cases = [shapes._case(spine[place], 1, "randn") for place in PLACES if place in spine]
        done = 0
        for case in cases:
            done += _launch(device, version, contract, case, written and version.language == "py")
        print(f"launched {name} {done}", flush=True)


def _launch(device, version, contract, case, written: bool) -> int:
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
        if tensor.access != "out" or written:
            given = drawn[tensor.name] if tensor.name in drawn else _zeros(shape)
            device.write(int(raw), encode(given, dtype))
    for name, (dtype, shape, _) in kernel.scratch.items():
        zeros = encode(_zeros(shape), dtype)
        held.append(device.driver.mem_alloc(max(zeros.nbytes, 1)))
        addresses[name] = int(held[-1])
        if written:
            device.write(addresses[name], zeros)
    consts = {name: drawn[name] for name in contract.consts if name in drawn}
    kernel.bind(addresses, consts)()
    device.synchronize()
    return 1


def _zeros(shape):
    import numpy as np

    return np.zeros(shape, np.float32)


def watch(tool: str, names: list[str], precision: str, seconds: float = SECONDS) -> dict:
    """What one tool says of a child that launches `names`, within `seconds`."""
    command = ["compute-sanitizer", "--tool", tool, *TOOLS[tool], "--error-exitcode", str(FAULT),
               "--print-limit", "1000", sys.executable, "-m", "checks.sanitize", "--launch",
               ",".join(names), "--dtype", precision,
               *(["--written"] if tool == "initcheck" else [])]
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
        text, code = result.stdout + result.stderr, result.returncode
    except subprocess.TimeoutExpired as error:
        text, code = (error.stdout or b"").decode(errors="replace"), "timed-out"
    launched = dict(re.findall(r"^launched (\w+) (\d+)$", text, re.M))
    errors = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", text)
    clean = code == 0 and errors == ["0"] and all(int(launched.get(n, 0)) for n in names)
    said = [line for line in text.splitlines() if "=========" in line]
    return {"clean": clean, "code": code, "theirs": code == FAULT and theirs("\n".join(said)),
            "said": [] if clean else said, "tail": [] if clean else text.splitlines()[-6:]}


def theirs(said: str) -> list[str]:
    """The library's kernels that all of a tool's reports are about; empty where one report, or
    more, is about a kernel with lines, or was not printed."""
    places = re.findall(r"(?:access at|^=+\s+at) (\S.*)", said, re.M)
    if "were not printed" in said or any(re.search(r" in \S+:\d+", place) for place in places):
        return []
    return sorted({place.split("+0x")[0] for place in places})


def examine(names: list[str], precision: str, seconds: float) -> dict[str, dict[str, str]]:
    """Of each version what each tool found: clean, or the head of its report. `seconds`: that a
    tool may take over a quarter of the versions, or one."""
    groups = [names[k::4] for k in range(4) if names[k::4]]
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    with ThreadPoolExecutor(8) as pool:
        jobs = {(tool, k): pool.submit(watch, tool, group, precision, seconds)
                for tool in TOOLS for k, group in enumerate(groups)}
        alone = {}
        for (tool, k), job in jobs.items():
            clean = job.result()["clean"]
            print(f"{tool}: {', '.join(groups[k])}: "
                  f"{'clean' if clean else 'not clean; each alone'}", flush=True)
            if clean:
                found |= {n: found[n] | {tool: "clean"} for n in groups[k]}
            else:
                alone |= {(tool, n): pool.submit(watch, tool, [n], precision, seconds)
                          for n in groups[k]}
        for (tool, name), job in alone.items():
            one = job.result()
            if one["clean"]:
                found[name][tool] = "clean"
            elif one["theirs"] and _of_a_library(name):
                found[name][tool] = f"{THEIRS}{', '.join(one['theirs'])}"
            else:
                found[name][tool] = "\n".join(
                    [f"code {one['code']}", *one["said"][:25], *one["tail"]])
    return found


def _of_a_library(name: str) -> bool:
    return select.read(name, "cu")[0].language == "py"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m checks.sanitize")
    parser.add_argument("--kernel", default="*", help="names or globs, parted by commas")
    parser.add_argument("--dtype", default="bfloat16", choices=list(PRECISIONS))
    parser.add_argument("--out", help="JSON file for what was found")
    parser.add_argument("--seconds", type=float, default=SECONDS,
                        help=f"that a tool may take at once (default {SECONDS:.0f})")
    parser.add_argument("--launch", help=argparse.SUPPRESS)
    parser.add_argument("--written", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.launch:
        launch(options.launch.split(","), options.dtype, options.written)
        return 0
    if shutil.which("compute-sanitizer") is None:
        raise SystemExit("found no compute-sanitizer on PATH; it comes with CUDA's toolkit")
    precision = PRECISIONS[options.dtype]
    known = source.read_all(language="cu")
    versions = {name: known[name] for name in select.matching(options.kernel, "cu")}
    names = [name for name, v in versions.items()
             if v.supports(precision, contracts.of(v.contract_name).roles)]
    found = examine(names, options.dtype, options.seconds)
    faults = {f"{name} {tool}": said for name, tools in found.items()
              for tool, said in tools.items() if said != "clean"}
    foreign = {place for place, said in faults.items() if said.startswith(THEIRS)}
    for place, said in faults.items():
        print(f"{place}:\n{said}")
    print(f"{len(found)} versions in {options.dtype}, {len(TOOLS)} tools: "
          f"{len(faults) - len(foreign)} faults; {len(foreign)} reports on kernels inside a "
          f"vendor's library; {len(versions) - len(names)} versions are not of this dtype")
    if options.out:
        Path(options.out).write_text(json.dumps(found, indent=1) + "\n")
    return 1 if set(faults) - foreign or not found else 0


if __name__ == "__main__":
    sys.exit(main())
