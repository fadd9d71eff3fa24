"""Honest timing and the roofline: interleaved samples, a ratio with its interval, ceilings.

Variants are timed in random order round by round, so that a machine whose speed drifts slows all
of them; each variant rotates over its own copies of its buffers, together larger than the caches;
the first variant is timed against itself too, and that ratio is the noise floor of the run.
"""

import ctypes
import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ported.contract import ROOT, Contract
from ported.device import DeviceError
from ported.device.cpu import cache_directory, compiler
from ported.precision import FLOAT32
from ported.source import DTYPES

MOST = 512  # copies of the smallest buffers
ROTATED_BYTES = 96 << 20  # more than the private caches of any CPU here; the shared one is shared
NOISE = "itself"
BELOW = 0.95  # of the floor: ceilings are the best of few runs, what is quicker yet cannot be
PRIVATE = 1 << 16  # elements that a thread copies within its own cache: 512 KB, both sides


@dataclass(frozen=True)
class Ratio:
    """Median of a/b over rounds, its 95 % bootstrap interval, and the verdict it allows."""

    median: float
    low: float
    high: float

    def verdict(self, noise: float) -> str:
        """FASTER, SAME, SLOWER or UNSURE of a against b; `noise` is the ratio of like to like."""
        margin = max(abs(noise - 1), 0.03)
        if self.high < 1 - margin:
            return "FASTER"
        if self.low > 1 + margin:
            return "SLOWER"
        within = margin < 0.2 and 1 - margin <= self.low <= self.high <= 1 + margin
        return "SAME" if within else "UNSURE"


def interleave(variants: Mapping[str, Sequence[Callable[[], object]]], rounds: int = 7,
               least: float = 4e-3, slow: float = 1.0, seed: int = 0) -> dict[str, list[float]]:
    """Seconds a call, one sample a round, of each variant; a variant is its rotated calls.

    A sample runs rotations until `least` seconds have passed. A variant whose one call takes longer
    than `slow` seconds is sampled that once.
    """
    order = random.Random(seed)
    samples = {name: [_sample(calls[:1], 1)] for name, calls in variants.items()}
    names = [name for name in variants if samples[name][0] <= slow]
    repeats = {name: _repeats(variants[name], least) for name in names}
    samples |= {name: [] for name in names}
    for _ in range(rounds):
        order.shuffle(names)
        for name in names:
            samples[name].append(_sample(variants[name], repeats[name]))
    return samples


def _sample(calls: Sequence[Callable[[], object]], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        for call in calls:
            call()
    return (time.perf_counter() - start) / (repeats * len(calls))


def _repeats(calls: Sequence[Callable[[], object]], least: float) -> int:
    _sample(calls, 1)  # warms code and pages
    return max(1, int(least / max(_sample(calls, 1) * len(calls), 1e-9)))


def ratio(a: Sequence[float], b: Sequence[float], seed: int = 0, draws: int = 1000) -> Ratio:
    """a over b, paired by round."""
    rounds = min(len(a), len(b))  # a slow variant has one sample only
    pairs = np.asarray(a[:rounds]) / np.asarray(b[:rounds])
    picks = np.random.default_rng(seed).integers(0, len(pairs), (draws, len(pairs)))
    medians = np.median(pairs[picks], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return Ratio(float(np.median(pairs)), float(low), float(high))


def contract_bytes(contract: Contract, axes: Mapping[str, int],
                   roles: Mapping[str, str] = FLOAT32.dtypes) -> int:
    """Distinct bytes the contract requires: each input read, each output written, Sum and InOut
    both. Where the explicit file states BYTES (an embedding reads few rows of its table), that,
    stated for float32 and scaled by what `roles` makes of an element."""
    passes = {"in": 1, "out": 1, "sum": 2, "inout": 2}
    stated = contract.stated("BYTES", axes)
    if stated is not None:
        floats = [t for t in contract.tensors if t.role != "I32"]
        width = sum(DTYPES[roles[t.role]] * passes[t.access] for t in floats)
        return int(stated * width / sum(4 * passes[t.access] for t in floats))
    return sum(DTYPES[roles[tensor.role]] * passes[tensor.access]
               * int(np.prod(tensor.shape(axes), dtype=np.int64)) for tensor in contract.tensors)


def contract_operations(contract: Contract, axes: Mapping[str, int]) -> int | None:
    """Floating-point operations of the products, as the explicit file states in FLOPS."""
    return contract.stated("FLOPS", axes)


@dataclass(frozen=True)
class Ceilings:
    """Bytes a second of a copy or an update in place, the higher; operations a second, two a
    multiply-add: of independent float32 ones on a processor, of a large matrix product in the run's
    precision on a GPU. `peak`: bytes a second that nothing exceeds, where a copy is not the
    quickest there is: copies within a core's own cache, by all threads, since a shared cache may
    hold what is timed; of a GPU what the memory's clock and width allow, since reading alone is
    quicker than reading and writing."""

    bandwidth: float
    arithmetic: float
    peak: float | None = None

    def floors(self, nbytes: int, operations: int | None) -> dict[str, float]:
        """Seconds that moving the bytes and doing the operations take at least."""
        return {"memory": nbytes / self.bandwidth, "FMA": (operations or 0) / self.arithmetic}

    def beaten(self, nbytes: int, operations: int | None, seconds: float) -> str:
        """Why a time cannot be: it is below what the bytes and operations take at the quickest."""
        floors = {"memory": nbytes / (self.peak or self.bandwidth),
                  "FMA": (operations or 0) / self.arithmetic}
        roof = max(floors, key=floors.get)
        return "" if seconds >= BELOW * floors[roof] else (
            f"{seconds:.3g} s, below its floor of {floors[roof]:.3g} s ({roof})")

    def share(self, nbytes: int, operations: int | None, seconds: float) -> tuple[float, str]:
        """Share of the roofline, and which roof: the larger of the two floors over the time. What
        beats memory's floor had its data in a cache, and the roof is called so."""
        floors = self.floors(nbytes, operations)
        roof = max(floors, key=floors.get)
        share = floors[roof] / seconds
        return share, "cache" if roof == "memory" and share > 1.05 else roof


def level2() -> int:
    """Bytes of a core's second-level cache; 2 MB where the system does not say."""
    said = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    try:
        return int(said.read_text().strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return 2 << 20


def copies(nbytes: int, threads: int) -> int:
    """How many copies of `nbytes` of buffers are five times the private caches of all threads, and
    where that takes few, ROTATED_BYTES."""
    least = -(-5 * level2() * threads // nbytes)
    return max(1, min(least, MOST), min(24, -(-ROTATED_BYTES // nbytes)))


def ceilings(threads: int) -> Ceilings:
    """Measures this machine now: the best of several short runs each."""
    library = _ceilings_library()
    elements = 32 << 20
    arrays = [np.ones(elements, np.float32) for _ in range(2)]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    size, count = ctypes.c_long(elements), ctypes.c_int(threads)
    copies = [_sample([call], 1) for _ in range(6) for call in (
        lambda: library.ceilings_copy(*pointers, size, count),
        lambda: library.ceilings_update(pointers[0], size, count))]
    few, many = ctypes.c_long(PRIVATE), ctypes.c_long(200)
    kept = [_sample([lambda: library.ceilings_cache(*pointers, few, many, count)], 1)
            for _ in range(6)]
    rounds = 2_000_000
    out = np.zeros(1 + threads, np.float32)
    adds = [_sample([lambda: library.ceilings_multiply_add(
        ctypes.c_void_p(out.ctypes.data), ctypes.c_long(rounds), count)], 1) for _ in range(6)]
    operations = 2 * 12 * library.ceilings_lanes() * rounds * threads
    return Ceilings(8 * elements / min(copies), operations / min(adds),
                    8 * PRIVATE * many.value * threads / min(kept))


def _ceilings_library() -> ctypes.CDLL:
    source = ROOT / "ported" / "ceilings.c"
    library = cache_directory() / "cpu" / f"ceilings-{source.stat().st_mtime_ns}.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        command = [compiler()[0], "-O3", "-march=native", "-fopenmp", "-ffp-contract=fast",
                   "-shared", "-fPIC", str(source), "-o", str(library)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise DeviceError(f"{source}: does not compile:\n{result.stderr}")
    return ctypes.CDLL(str(library))


