"""Witnesses at sizes that no plan of launches reaches (witness_plan.py): spread launches.

    python -m checks.court_large FILE OPERATION DIRECTION DEVICE DTYPE

launches a file at the sizes of the check `size`, and at the numbers that its `needs` name, in its
first configuration and its last, without asking a check, and prints lines of JSON: each launch, and
after it a digest of the elements that are kept of every output, or null where it would have taken
too long, or what the device says against it. A court holds those of a mutant against those of the
file that it was made from. The process is the kernel's own, so that a crash at one launch leaves
the lines before it.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

LIMIT = 240.0  # seconds for all launches of one file
LEAST, MOST = 1 << 10, 1 << 20  # numbers in `needs` that are sizes to try
FAULT = "fault"  # in the place of outputs: the device's reason


def witness(root: Path, original: Path, path: Path, job: dict) -> dict:
    """`line`: the first launch at which `path` gives something else than `original`, in words;
    `left`: the launches that took either of them too long; `error`: what kept them from being held
    against each other. Each is empty where there is none. `root`: the checkout."""
    right = _looked(root, original, job)
    if right.code:  # a machine short of memory may have ended it
        right = _looked(root, original, job)
    if right.code:
        return _seen(error=f"the file that it was made from {right.ended}")
    wrong = _looked(root, path, job)
    if wrong.code == -signal.SIGKILL:
        return _seen(error=f"the mutant {wrong.ended}: short of memory?")
    left, alone = [], []
    for launch, outputs in right.outputs.items():
        theirs = wrong.outputs.get(launch, {})
        if launch not in wrong.outputs:
            alone += [launch] * (FAULT not in (outputs or {}))
        elif outputs is None or theirs is None:
            left.append(launch)
        elif theirs != outputs:
            names = [name for name in theirs | outputs if theirs.get(name) != outputs.get(name)]
            return _seen(f"{launch}: {', '.join(names)} differ from the original's")
    for launch in wrong.outputs.keys() - right.outputs.keys():
        if FAULT in (wrong.outputs[launch] or {}):
            return _seen(f"{launch}: fault: {wrong.outputs[launch][FAULT]}")
    if wrong.code:
        return _seen(f"{wrong.begun or 'after the last launch'}: fault: {wrong.ended}")
    if alone:
        return _seen(error=f"launches that the mutant does not have: {', '.join(alone)}", left=left)
    return _seen(left=left)


def _seen(line: str = "", error: str = "", left: Iterable[str] = ()) -> dict:
    return {"line": line, "left": [*left], "error": error}


@dataclass(frozen=True)
class Looked:
    """What a process said: outputs by launch, the launch that it ended in, if in one, its exit code
    (1 of one that does not end), and the end in words."""

    outputs: Mapping[str, Mapping | None]
    begun: str
    code: int
    ended: str


def _looked(root: Path, path: Path, job: dict) -> Looked:
    """Launches one file in a process. Patience counts processor time: who waits must not spin."""
    command = [sys.executable, "-m", "checks.court_large", str(path), job["operation"],
               job["direction"], job["device"], job["dtype"]]
    try:
        done = subprocess.run(command, cwd=root, text=True, capture_output=True, timeout=LIMIT,
                              env={**os.environ, "OMP_WAIT_POLICY": "passive"})
        said, code = done.stdout, done.returncode
        last = done.stderr.strip().splitlines()[-1:]
        ended = ": ".join([f"ends with code {code}", *last])
    except subprocess.TimeoutExpired as error:
        said, code, ended = (error.stdout or b"").decode(), 1, f"does not end within {LIMIT} s"
    lines = [json.loads(line) for line in said.splitlines() if line.endswith("}")]
    outputs = {line["launch"]: line["outputs"] for line in lines if "outputs" in line}
    begun = lines[-1]["launch"] if lines and "outputs" not in lines[-1] else ""
    return Looked(outputs, begun, code, ended)


@cache
def code() -> str:
    """A digest of this file, for who keeps results."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


def _digests(outputs: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
            for name, array in outputs.items()}


def _spread(subject, launch, device, clock) -> tuple[dict[str, np.ndarray], float]:
    """What is kept of every output of a spread launch, as it lies in memory, and its seconds: those
    of the call alone, as the check `size` counts them."""
    from checks import huge, known

    given = known.of(launch.case, subject.contract)
    inputs = {t.name: given.inputs[t.name] for t in subject.contract.inputs}
    consts = {n: given.inputs[n] for n in subject.contract.consts if n in given.inputs}
    with huge.Memory(device) as memory:
        one = huge.Huge(subject, launch, memory)
        one.put(inputs | given.starts(subject.contract))
        call, start = one.kernel.bind(one.addresses, consts), clock()
        call()
        device.synchronize()
        seconds = clock() - start
        return {t.name: one.get(t.name) for t in subject.contract.outputs}, seconds


def launches(subject, shapes) -> Iterator[tuple[str, Callable[[], dict | None]]]:
    """Each launch, and what gives its outputs: every plan of the check `size` that memory allows,
    None where patience does not; axes that cannot grow so; what `needs` name."""
    from checks import huge, memory_checks, size
    from checks.trial import Trial

    name, patience = subject.device.name, size.Patience(subject)
    device = memory_checks.with_threads(subject.device, size.ROWS) if name == "cpu" else (
        subject.device)

    def grown(launch, plan, places):
        if not patience.allows(plan, places):
            return None
        outputs, seconds = _spread(subject, launch, device, patience.clock)
        patience.took(plan, places, seconds)
        return outputs

    for plan, places in size.jobs(subject.contract, name):
        launch = size.fitting(subject, shapes, plan, places, 0)
        if launch is not None and not huge.too_large(subject, launch):
            yield str(launch), partial(grown, launch, plan, places)
    for sizes in _long(subject):
        trial = Trial(subject, shapes._case(sizes, 0, "unit"))
        yield str(trial.case), lambda trial=trial: trial.stage.run(trial.inputs).outputs


def _long(subject) -> Iterator[dict[str, int]]:
    """Sizes with one long axis, the others of one or few: those that the check `size` has, then an
    axis that the version's `needs` hold against a number, at that number."""
    from checks import size
    from checks.cases import BELOW, axes_of, consistent

    version, axes = subject.version, axes_of(subject.contract)
    wanted = list(size.WHOLE.items())
    for need in version.needs:
        numbers = [int(n) for n in re.findall(r"\b\d+\b", need)]
        wanted += [(axis, n) for axis in re.findall(r"[A-Za-z]+", need) if axis in axes
                   for n in numbers if LEAST <= n <= MOST]
    for axis, length in wanted:
        for others in (1, 64):
            sizes = dict.fromkeys(axes, others) | {axis: length}
            sizes |= {"D": 2} if axis == "T" and "D" in sizes else {}
            sizes |= {BELOW[axis]: length + 1} if BELOW.get(axis) in sizes else {}
            if axis in subject.contract.axes and axis not in version.static and (
                    consistent(sizes) and subject.applies(sizes) and subject.affords(sizes)):
                yield sizes
                break


def main(file: str, operation: str, direction: str, device: str, dtype: str) -> None:
    """Prints the lines."""
    from checks import tiers
    from checks.shapes import Shapes
    from checks.trial import Ledger, Subject
    from ported import contract as contracts
    from ported import device as devices
    from ported import source

    version = source.read(Path(file), operation, direction)
    contract, machine = contracts.of(version.contract_name), devices.open(device, precision=dtype)
    choices, tier = version.configurations(), tiers.of("deep", machine)
    shapes = Shapes(version, contract, machine)
    for choice in choices[:1] + choices[1:][-1:]:
        subject = Subject(version, contract, machine, choice, Ledger(), tier=tier)
        for launch, outputs_of in launches(subject, shapes):
            launch = " ".join([launch, *(f"{name}={value}" for name, value in choice.items())])
            print(json.dumps({"launch": launch}), flush=True)
            try:
                outputs = outputs_of()
                kept = None if outputs is None else _digests(outputs)
            except (devices.NotApplicable, devices.DeviceError) as error:
                kept = {FAULT: str(error)}
            print(json.dumps({"launch": launch, "outputs": kept}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
