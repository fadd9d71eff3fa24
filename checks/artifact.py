"""Check 17: what the compiled kernel says, against what its file claims.

A version is compiled for the oldest and the newest architecture that the project is written for and
taken apart (nvdisasm, cuobjdump: CUDA's toolkit or pip's wheels of these names). In the machine
code stand the facts that no test of results shows surely:

    atomics            none under `no_atomics`; under `deterministic` none on floats and no
                       compare-and-swap, since their order is nobody's
    tensor cores       none in float32; TF32 where `products tf32` says so; sums in float32 always
    narrow arithmetic  none: bfloat16 is for memory and for factors of products
    tanh               in float32 not the hardware's, whose error is 2^-11 (PTX ISA, tanh.approx);
                       tanhf is made of other instructions
    local memory       none (registers that ran out, arrays indexed at run time), or what the
                       directive `spills N` allows, in instructions
    registers          no more than a multiprocessor has for the block
"""

import re
import shutil
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

from checks.shapes import Shapes
from checks.trial import Fault, Subject
from ported import expressions
from ported.device import DeviceError, cuda_code
from ported.directives import directive_lines

REGISTERS = 65536  # of a multiprocessor, in words of 32 bits
STATIC_SHARED = 49152  # bytes that a kernel may declare
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]+)", re.M)
_ATOMIC = re.compile(r"(U?ATOM[GS]?|RED|REDG|UREDG)(\.|$)")
_FLOAT = re.compile(r"\.(F16|F32|F64|BF16)|\.CAST?\b|\.CAS\b")
_TENSOR = re.compile(r"[HBIDQ]G?MMA(\.|$)|HGMMA")
_NARROW = re.compile(r"H(ADD2|MUL2|FMA2|MNMX2)\.BF16")
_USAGE = re.compile(r"Function (\w+):\s*REG:(\d+) STACK:(\d+) SHARED:(\d+)")


@cache
def tool(name: str) -> str | None:
    """A program of CUDA's: on PATH, beside nvcc, or of pip's wheels."""
    beside = Path(cuda_code.nvcc()[0]).resolve().parent / name
    places = [shutil.which(name), beside, *cuda_code._installed(f"bin/{name}")]
    return next((str(place) for place in places if place and Path(place).is_file()), None)


def _output(*command: object) -> str:
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if result.returncode:
        raise DeviceError(f"{command[0]}: {result.stderr.strip()[:300]}")
    return result.stdout


def instructions(cubin: Path) -> Counter:
    """How often each instruction stands in the machine code, with its modifiers."""
    return Counter(_INSTRUCTION.findall(_output(tool("nvdisasm"), "-c", cubin)))


def usage(cubin: Path) -> dict[str, dict[str, int]]:
    """Registers, bytes of stack and of static shared memory of each function."""
    found = _USAGE.findall(_output(tool("cuobjdump"), "--dump-resource-usage", cubin))
    return {name: {"registers": int(registers), "stack": int(stack), "shared": int(shared)}
            for name, registers, stack, shared in found}


def faults(version, precision, counts: Counter) -> list[str]:
    """What the machine code does that the file does not allow."""
    found = []

    def refuse(what: str, wrong) -> None:
        words = {word: n for word, n in counts.items() if wrong(word)}
        if words:
            shown = ", ".join(f"{word} ({n})" for word, n in sorted(words.items())[:4])
            found.append(f"{what}: found {shown}")

    if "no_atomics" in version.claims:
        refuse("no_atomics", _ATOMIC.match)
    if "deterministic" in version.claims:
        refuse("deterministic, which atomics on floats are not",
               lambda word: _ATOMIC.match(word) and _FLOAT.search(word))
    allowed = {"float32": (), "tf32": ("TF32",), "bfloat16": ("BF16", "TF32")}[precision.products]
    if precision.products == "tf32" and version.products != "tf32":
        allowed = ()
    refuse(f"tensor cores with what {precision.name} does not allow",
           lambda word: _TENSOR.match(word) and not any(kind in word for kind in allowed))
    refuse("tensor cores that do not sum in float32",
           lambda word: _TENSOR.match(word) and ".F32" not in word)
    refuse("arithmetic in bfloat16", _NARROW.match)
    if precision.dtypes["F"] == "float32":
        refuse("a tanh that is good to 2^-11, in float32", lambda word: word == "MUFU.TANH")
    local = sum(n for word, n in counts.items() if word.startswith(("LDL", "STL")))
    if local > spills(version):
        found.append(f"local memory: found {local} loads and stores, expected at most "
                     f"{spills(version)}; `//@ spills {local}` would allow them")
    return found


def spills(version) -> int:
    """Loads and stores of local memory that the file allows itself."""
    words = [line.split() for _, line in directive_lines(version.text, version.path)]
    return max((int(line[1]) for line in words if line[:1] == ["spills"]), default=0)


def examine(subject: Subject) -> None:
    """Every configuration on both architectures; a version that the older one cannot have is judged
    on the newer."""
    version, device = subject.version, subject.device
    spine = Shapes(version, subject.contract, device).spine().values()
    for parameters in version.configurations():
        sizes = next((s for s in spine if not version.unmet_needs(
            {**s, **parameters, **device.values})), None)
        missing = _missing(version, sizes)
        if missing:
            subject.ledger.not_run[f"artifact: {missing}"] += 1
        else:
            _configuration(subject, sizes, parameters)


def _configuration(subject: Subject, sizes, parameters) -> None:
    version, device = subject.version, subject.device
    values = cuda_code.values_of(version, sizes, parameters)
    for architecture in cuda_code.ARCHITECTURES:
        try:
            cubin = cuda_code.cubin(version, device.precision, values, architecture)
        except DeviceError as error:
            if architecture == cuda_code.ARCHITECTURES[-1]:
                _refuse(subject, str(error), parameters)
            subject.ledger.not_run[f"artifact: does not compile for {architecture}"] += 1
            continue
        subject.ledger.ran("artifact")
        for fault in [*faults(version, device.precision, instructions(cubin)),
                      *_resources(subject, {**sizes, **parameters}, usage(cubin))]:
            _refuse(subject, f"{architecture}: {fault}", parameters)


def _missing(version, sizes) -> str:
    """Why there is nothing to look at, if there is nothing."""
    if version.language == "py":
        return "a library's own kernels"
    if sizes is None:
        return "no shape that the version needs"
    try:
        absent = [name for name in ("nvdisasm", "cuobjdump") if tool(name) is None]
    except DeviceError:
        return "no nvcc here"
    return f"no {', '.join(absent)} here" if absent else ""


def _resources(subject: Subject, sizes, used: dict[str, dict[str, int]]) -> list[str]:
    integers = {**sizes, **subject.device.values}
    found = []
    for launch in subject.version.launches:
        own = used.get(launch.function)
        block = expressions.evaluate(launch.block, integers)
        if own and own["registers"] * block > REGISTERS:
            found.append(f"{launch.function}: found {own['registers']} registers for each of "
                         f"{block} threads, expected at most {REGISTERS} in all")
        if own and own["shared"] > STATIC_SHARED:
            found.append(f"{launch.function}: found {own['shared']} bytes of static shared "
                         f"memory, expected at most {STATIC_SHARED}")
    return found


def _refuse(subject: Subject, message: str, parameters) -> None:
    subject.ledger.refuse(Fault("artifact", "", message, float("inf"), "", dict(parameters)))
