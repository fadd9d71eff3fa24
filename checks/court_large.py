"""Witnesses at sizes that no plan of launches reaches (witness_plan.py): spread launches.

    python -m checks.court_large FILE OPERATION DIRECTION DEVICE DTYPE

launches a file at the sizes of the check `size`, without asking it or any other, and prints a line
of JSON for each: the launch, and a digest of the elements that are kept of every output, or null
where the launch would have taken too long. A court holds those of a mutant against those of the
file that it was made from. The process is the kernel's own, so that a crash at one launch leaves
the lines before it.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np

LIMIT = 240.0  # seconds for all launches of one file


def witness(root: Path, original: Path, path: Path, job: dict) -> dict:
    """`line`: the first launch at which `path` gives something else than `original`, in words;
    `left`: the launches that took either of them too long; `error`: what kept them from being held
    against each other. Each is empty where there is none. `root`: the checkout."""
    right, code, ended = _lines(root, original, job)
    if code:  # a machine short of memory may have ended it
        right, code, ended = _lines(root, original, job)
    if code:
        return _seen(error=f"the file that it was made from {ended}")
    wrong, code, ended = _lines(root, path, job)
    if code == -signal.SIGKILL:
        return _seen(error=f"the mutant {ended}: short of memory?")
    left, alone = [], []
    for launch, outputs in right.items():
        if launch not in wrong:
            alone.append(launch)
        elif outputs is None or wrong[launch] is None:
            left.append(launch)
        elif wrong[launch] != outputs:
            names = [name for name in outputs if wrong[launch].get(name) != outputs[name]]
            return _seen(f"{launch}: {', '.join(names)} differ from the original's")
    if code:
        return _seen(f"{alone[0] if alone else 'after the last launch'}: fault: {ended}")
    if alone:
        return _seen(error=f"launches that the mutant does not have: {', '.join(alone)}", left=left)
    return _seen(left=left)


def _seen(line: str = "", error: str = "", left: Iterable[str] = ()) -> dict:
    return {"line": line, "left": [*left], "error": error}


def _lines(root: Path, path: Path, job: dict) -> tuple[dict[str, dict | None], int, str]:
    """What a file prints, by launch, the exit code (1 of one that does not end), and how it ended,
    in words. Patience counts processor time: who waits must not spin."""
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
    found = [json.loads(line) for line in said.splitlines() if line.endswith("}")]
    return {one["launch"]: one["outputs"] for one in found}, code, ended


@cache
def code() -> str:
    """A digest of this file, for who keeps results."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]


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


def launched(subject, shapes) -> Iterator[tuple[str, dict[str, np.ndarray] | None]]:
    """(launch, outputs) of every plan of the check `size` that memory allows, None where patience
    does not, then of axes that cannot grow so."""
    from checks import huge, memory_checks, size

    name, patience = subject.device.name, size.Patience(subject)
    device = memory_checks.with_threads(subject.device, size.ROWS) if name == "cpu" else (
        subject.device)
    steps = [(step, plan) for plan in size.plans(subject.contract, name)
             for step in range(len(plan.sizes))]
    for step, plan in sorted(steps, key=lambda one: one[0]):
        places = plan.sizes[step]
        launch = size.fitting(subject, shapes, plan, places, 0)
        if launch is None or huge.too_large(subject, launch):
            continue
        if not patience.allows(plan, places):
            yield str(launch), None
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
        kept = None if outputs is None else _digests(outputs)
        print(json.dumps({"launch": launch, "outputs": kept}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
