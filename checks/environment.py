"""What a C kernel may not depend on, and may not keep: the deep tier's check `environment`.

OpenMP may hand out fewer threads than asked for; its own number of threads may be anything; fresh
memory of the heap and the stack may hold anything; a process may call a kernel 70 000 times. And a
kernel gives back whatever it takes: memory, threads, files.
"""

import ctypes
import os
import time
from pathlib import Path

import numpy as np

from checks import watched
from checks.late import base, stage_of, trials
from checks.launch import Result, _region
from checks.memory_checks import with_threads
from checks.shapes import HOME, Shapes
from checks.trial import Subject, Trial
from ported.precision import decode

ASKED, GRANTED = 7, (1, 2, 4)  # threads that are asked for and those that a team then has
NUMBERS = (1, 5, 16, 37)  # OMP_NUM_THREADS, as omp_set_num_threads sets it
BYTES = (0x00, 0x7F, 0xFF)  # heap and stack hold these: zeros, 3.39e38, NaN
CALLS = 70_000  # more than 16 bits count
SECONDS = 4.0  # of the processor's time that they may take
JUDGED = 20  # of them that differ under no claim of determinism
ROUND, ROUNDS = 60, 4  # calls, of each of which no round may keep something
_LIBC = ctypes.CDLL(None)
_LIBC.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def environment(subject: Subject, shapes: Shapes, seed: int) -> None:
    """The same results whatever the process around a kernel is like; nothing kept."""
    for _, trial in trials(subject, shapes, seed, (HOME, "over"), "environment"):
        first = base(trial)
        for check in (fewer, numbers, dirt, kept):
            check(trial, first)
        if subject.ledger.refused["environment"]:
            return  # what keeps something must not be called often
    for _, trial in trials(subject, shapes, seed, ("one",), "environment"):
        many(trial, base(trial))


def fewer(trial: Trial, first: Result) -> None:
    """Teams smaller than asked for, as under OMP_THREAD_LIMIT or within a parallel region."""
    stage = stage_of(trial, ASKED)
    for count in GRANTED if stage else ():
        most = watched.variable(stage.kernel.library, "trivium_most")
        most.value = count
        try:
            again = trial.run(stage=stage)
        finally:
            most.value = 0
        trial.same("environment", first, again, f"where OpenMP gives {count} threads of the "
                   f"{ASKED} asked for")


def numbers(trial: Trial, first: Result) -> None:
    """Whatever OMP_NUM_THREADS says: a kernel is told how many threads to take. They take turns, or
    two of them might do it all."""
    stage = stage_of(trial, trial.subject.device.threads)
    library = stage.kernel.library
    before, even = library.omp_get_max_threads(), watched.variable(library, "trivium_even")
    for count in NUMBERS:
        library.omp_set_num_threads(count)
        even.value = 1
        try:
            again = trial.run(stage=stage)
        finally:
            library.omp_set_num_threads(before)
            even.value = 0
        trial.same("environment", first, again, f"with OMP_NUM_THREADS={count}")


def dirt(trial: Trial, first: Result) -> None:
    """Whatever the heap and the stack held before."""
    stage = stage_of(trial, trial.subject.device.threads)
    fill = watched.variable(stage.kernel.library, "trivium_fill")
    for byte in BYTES:
        fill.value = byte
        try:
            again = trial.run(stage=stage)
        finally:
            fill.value = -1
        trial.same("environment", first, again, f"where heap and stack held bytes 0x{byte:02x}")


def taken(library: ctypes.CDLL) -> dict[str, int]:
    """What the process has by now: bytes of the kernel's heap, pages, threads, open files."""
    here = Path("/proc/self")
    found = {"bytes of the heap": watched.kept(library)}
    if here.is_dir():
        found |= {"pages of memory": int((here / "statm").read_text().split()[0]),
                  "threads": len(os.listdir(here / "task")),
                  "open files": len(os.listdir(here / "fd"))}
    return found


def kept(trial: Trial, first: Result) -> None:
    """Calls in rows: what each row leaves the process with more than before is never given back."""
    stage = stage_of(trial, trial.subject.device.threads)
    trial.run(stage=stage, calls=ROUND)  # teams and buffers that are made once
    counts = [taken(stage.kernel.library)]
    for _ in range(ROUNDS):
        trial.run(stage=stage, calls=ROUND)
        counts.append(taken(stage.kernel.library))
    trial.ledger.ran("environment")
    for what, number in counts[0].items():
        numbers = [number, *(count[what] for count in counts[1:])]
        if (np.diff(numbers) > 0).all():
            trial.refuse("environment", "", f"{ROUND} calls more, {ROUNDS} times: {what} "
                         f"{', '.join(map(str, numbers))}; expected no more after each")


def many(trial: Trial, first: Result) -> None:
    """Each of 70 000 calls, on the same memory in the same state, gives the same."""
    device = with_threads(trial.subject.device, 1)
    subject, sizes = trial.subject, trial.case.sizes
    if subject.version.unmet_needs({**sizes, **subject.parameters, "threads": 1}):
        subject.ledger.not_run["70 000 calls: the version needs more than one thread"] += 1
        return
    stage = subject.stage(sizes, device)
    if stage.bulk:
        subject.ledger.not_run["70 000 calls: scratch of more than a megabyte"] += 1
        return
    repeated = Repeated(trial, stage)
    start, judged = time.thread_time(), 0
    for number in range(CALLS):
        if repeated.differs():
            trial.same("environment", first, repeated.result(), f"call {number + 1} of the same")
            judged += 1
            if judged == JUDGED or subject.claims("deterministic"):
                break
        if not number % 1000 and time.thread_time() - start > SECONDS:
            subject.ledger.not_run[f"70 000 calls: no more than {number} in {SECONDS} s"] += 1
            break
    subject.ledger.ran("environment")


class Repeated:
    """One launch made over and over with as little besides as can be: outputs are put back to what
    they were before it, and compared with what the first one left."""

    def __init__(self, trial: Trial, stage):
        self.stage = stage
        image, self.places = stage.image(trial.inputs, {}, "nan", "nan", {})
        base = _region(stage.device, image.nbytes)
        stage.device.write(base, image)
        addresses = {name: base + at for name, at in self.places.items()}
        consts = {n: trial.inputs[n] for n in trial.contract.consts if n in trial.inputs}
        self.call = stage.kernel.bind(addresses, consts)
        self.names = [tensor.name for tensor in trial.contract.outputs]
        self.spans = []
        self.call()
        for name in self.names:
            size = stage.counts[name] * stage.width[name]
            at = self.places[name]
            start, after = image[at:at + size].copy(), stage.device.read(
                addresses[name], (size,), "uint8")
            self.spans.append((addresses[name], start, after, size, start.ctypes.data,
                               after.ctypes.data))

    def differs(self) -> bool:
        """Makes one call; whether it left other bits than the first."""
        for address, _, _, size, start, _ in self.spans:
            ctypes.memmove(address, start, size)
        self.call()
        return any(_LIBC.memcmp(address, after, size)
                   for address, _, _, size, _, after in self.spans)

    def result(self) -> Result:
        """What the last call left."""
        stage, found = self.stage, {}
        for name, (address, *_) in zip(self.names, self.spans, strict=True):
            numbers = stage.device.read(address, stage.shapes[name], stage.dtypes[name])
            found[name] = decode(numbers, stage.dtypes[name])
        return Result(found)
