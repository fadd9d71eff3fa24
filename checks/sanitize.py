"""compute-sanitizer over every CUDA version: memcheck, racecheck, initcheck, synccheck.

    python -m checks.sanitize --dtype bfloat16                    all versions, all four tools
    python -m checks.sanitize --kernel 'layernorm_*' --out FILE   some, and what was found as JSON

A child process launches each version at a few small shapes, every buffer in an allocation of its
own size, outputs and scratch not written before; the tools watch it. Where a tool finds faults,
each version is run alone under it, so that a fault blames only its own. Exit code 0: nothing found,
but for races and barriers within kernels that cuDNN has generated.

Of versions that call a vendor's library three things differ. Under initcheck, which does not see
what a library's kernels store in bulk, outputs and scratch are filled beforehand. Under memcheck
errors of the driver's functions are not reported: libraries ask for some that it may lack. And
races and barriers within cuDNN's own kernels, of which PyTorch's calls show the same, are told
apart: nobody here can mend them. What a library reads or writes out of bounds is a fault like any
other: it is we who tell it sizes.
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
WITHIN = ("racecheck", "synccheck")  # tools whose word on a library's own kernels is told apart
GENERATED = "cudnn_generated_"  # how cuDNN calls such kernels
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
    """What one tool says of a child that launches `names`, within `seconds`. `theirs`: the kernels
    that cuDNN generated, where all that it says is about them."""
    library = any(map(_of_a_library, names))
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", str(FAULT),
               "--print-limit", "1000",
               *(["--report-api-errors", "no"] if tool == "memcheck" and library else []),
               sys.executable, "-m", "checks.sanitize", "--launch", ",".join(names),
               "--dtype", precision, *(["--written"] if tool == "initcheck" else [])]
    try:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds)
        text, code = result.stdout + result.stderr, result.returncode
    except subprocess.TimeoutExpired as error:
        text, code = (error.stdout or b"").decode(errors="replace"), "timed-out"
    launched = dict(re.findall(r"^launched (\w+) (\d+)$", text, re.M))
    errors = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", text)
    whole = all(int(launched.get(name, 0)) for name in names)
    clean = code == 0 and errors == ["0"] and whole
    said = [line for line in text.splitlines() if "=========" in line]
    excused = whole and library and code == FAULT and tool in WITHIN
    return {"clean": clean, "code": code, "theirs": generated("\n".join(said)) if excused else [],
            "said": [] if clean else said, "tail": [] if clean else text.splitlines()[-6:]}


def generated(said: str) -> list[str]:
    """The kernels that cuDNN generated, where every report is about such kernels alone; else none:
    a report without a place, or one that was not printed, may be about anything."""
    heads = [match.start() for match in re.finditer(r"^=+ (?!COMPUTE-SANITIZER|[A-Z]+ SUMMARY:)\S",
                                                    said, re.M)]
    found: set[str] = set()
    for start, end in zip(heads, [*heads[1:], len(said)], strict=False):
        places = re.findall(r"(?:access at|^=+\s+at) (\S+)", said[start:end], re.M)
        if not places or not all(place.startswith(GENERATED) for place in places):
            return []
        found |= {place.split("+0x")[0] for place in places}
    return [] if "were not printed" in said else sorted(found)


def examine(names: list[str], precision: str, seconds: float) -> dict[str, dict[str, str]]:
    """Of each version what each tool found: clean, or the head of its report. `seconds`: that a
    tool may take over a group of the versions, or one. Those of libraries are a group."""
    libraries = [name for name in names if _of_a_library(name)]
    ours = [name for name in names if name not in libraries]
    groups = [part for part in (*(ours[k::3] for k in range(3)), libraries) if part]
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
            elif one["theirs"]:
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
                        help=f"for one tool over one group of versions ({SECONDS:.0f})")
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
