"""Witnesses at sizes that no plan of launches reaches (witness_plan.py): spread launches.

    python -m checks.court_large FILE OPERATION DIRECTION DEVICE DTYPE

launches a file at the sizes of the check `size`, without asking it or any other, and prints a line
of JSON for each: the launch, and a digest of the elements that are kept of every output. A court
holds those of a mutant against those of the file that it was made from. The process is the kernel's
own, so that a crash at one launch leaves the lines before it.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

LIMIT = 240.0  # seconds for all launches of one file


def witness(root: Path, original: Path, path: Path, job: dict) -> str:
    """The first launch at which `path` gives something else than `original`, in words; empty where
    there is none, or where the original itself does not come to its end. `root`: the checkout."""
    right, code = _lines(root, original, job)
    if code:
        return ""
    wrong, code = _lines(root, path, job)
    for launch, outputs in right.items():
        if launch not in wrong:
            return f"{launch}: fault: ends with code {code}" if code else ""
        if wrong[launch] != outputs:
            names = [name for name in outputs if wrong[launch].get(name) != outputs[name]]
            return f"{launch}: {', '.join(names)} differ from the original's"
    return ""


def _lines(root: Path, path: Path, job: dict) -> tuple[dict[str, dict], int]:
    """What a file prints, by launch, and the exit code; one that does not end has code 1."""
    command = [sys.executable, "-m", "checks.court_large", str(path), job["operation"],
               job["direction"], job["device"], job["dtype"]]
    try:
        done = subprocess.run(command, cwd=root, text=True, capture_output=True, timeout=LIMIT)
        said, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:
        said, code = (error.stdout or b"").decode(), 1
    found = [json.loads(line) for line in said.splitlines() if line.endswith("}")]
    return {one["launch"]: one["outputs"] for one in found}, code


def _digests(outputs: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
            for name, array in outputs.items()}


def _spread(subject, launch, device) -> dict[str, np.ndarray]:
    """What is kept of every output of a spread launch, as it lies in memory."""
    from checks import huge, known

    given = known.of(launch.case, subject.contract)
    inputs = {t.name: given.inputs[t.name] for t in subject.contract.inputs}
    consts = {n: given.inputs[n] for n in subject.contract.consts if n in given.inputs}
    with huge.Memory(device) as memory:
        one = huge.Huge(subject, launch, memory)
        one.put(inputs | given.starts(subject.contract))
        one.kernel.bind(one.addresses, consts)()
        device.synchronize()
        return {t.name: one.get(t.name) for t in subject.contract.outputs}


def launched(subject, shapes) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(launch, outputs) of every plan of the check `size` that patience and memory allow, then of
    axes that cannot grow so."""
    from checks import huge, memory_checks, size

    name, patience = subject.device.name, size.Patience(subject)
    device = memory_checks.with_threads(subject.device, size.ROWS) if name == "cpu" else (
        subject.device)
    steps = [(step, plan) for plan in size.plans(subject.contract, name)
             for step in range(len(plan.sizes))]
    for step, plan in sorted(steps, key=lambda one: one[0]):
        places = plan.sizes[step]
        launch = size.fitting(subject, shapes, plan, places, 0)
        if launch is None or not patience.allows(plan, places) or huge.too_large(subject, launch):
            continue
        start = patience.clock()
        yield str(launch), _spread(subject, launch, device)
        patience.took(plan, places, patience.clock() - start)
    yield from _whole(subject, shapes)


def _whole(subject, shapes) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    from checks import size
    from checks.cases import BELOW, axes_of
    from checks.trial import Trial

    for axis, length in size.WHOLE.items():
        sizes = dict.fromkeys(axes_of(subject.contract), 1) | {axis: length}
        sizes |= {"D": 2} if axis == "T" and "D" in sizes else {}
        sizes |= {BELOW[axis]: length + 1} if BELOW.get(axis) in sizes else {}
        if axis in subject.contract.axes and axis not in subject.version.static and (
                subject.applies(sizes) and subject.affords(sizes)):
            case = shapes._case(sizes, 0, "unit")
            yield str(case), Trial(subject, case).run().outputs


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
    subject = Subject(version, contract, machine, version.configurations()[0], Ledger(),
                      tier=tiers.of("deep", machine))
    for launch, outputs in launched(subject, Shapes(version, contract, machine)):
        print(json.dumps({"launch": launch, "outputs": _digests(outputs)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
