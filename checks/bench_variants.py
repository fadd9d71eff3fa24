"""What a bench on a GPU times at one shape: buffers in copies, versions, PyTorch, their digests."""

import math
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from checks import bench_peers
from ported import bench, contract, source
from ported.device import DeviceError, NotApplicable, cuda_code
from ported.device.cuda_errors import DeviceGone

WHERE = "cuda"  # PyTorch's name of the device
ROUNDS = 7
LONG = 5e-3  # seconds: a variant whose call takes longer is sampled apart, VERY_LONG: once
VERY_LONG = 0.5
ENOUGH = 1e-3  # seconds that a sample lasts at least
CALLS, ROOM = 8, 8 << 30  # a rotation of short calls has so many, so that starting it hardly
# counts; bytes that they take at most
CLOSE = 1.15  # configurations this near a version's best, on first sight, go into the rounds
CHANCE = 1e-3  # by which lengths may differ where a version does not claim to repeat its bits
DRAWN = ("F", "R", "P", "G")  # roles whose contents are random numbers
WALL = 5e-3  # seconds of rotations that are timed by the host's clock as well
HOST, IDLE = 1.3, 1e-3  # what that may show beyond the device's: a part, and seconds of waiting
TORCH = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int32": torch.int32}
EAGER, COMPILED = "PyTorch eager", "PyTorch compiled"


@dataclass
class Variant:
    """Something timed: its version and parameters, or PyTorch; a sampler; what it found."""

    name: str
    version: source.Version | None = None
    parameters: dict = field(default_factory=dict)
    scratch: dict = field(default_factory=dict)  # its memory, held
    sample: Callable[[], float] | None = None
    again: Callable[[], None] | None = None  # one rotation, after which outputs are looked at
    fresh: tuple = ()  # what a call left in memory that is never timed
    samples: list[float] = field(default_factory=list)
    fault: str = ""


def settle() -> None:
    """Waits for every stream, ours too."""
    if WHERE == "cuda":
        torch.cuda.synchronize()


def drawn(name: str, role: str, shape, sizes, dtype) -> torch.Tensor:
    """A tensor's contents: random, of the size that training has."""
    def normal(scale):
        return torch.randn(shape, device=WHERE, dtype=torch.float32).mul_(scale).to(dtype)
    ranges = {"tokens": sizes.get("Vp"), "targets": sizes.get("V") or sizes.get("Vp")}
    if name in ranges:
        return torch.randint(0, ranges[name] or 2, shape, device=WHERE, dtype=torch.int32)
    fixed = {"t": 10, "lr": 1e-4, "scale": 0.5, "dscale": 1e-5, "rstd": 1.0, "lse": 10.0}
    if name in fixed:
        return torch.full(shape, fixed[name], device=WHERE, dtype=dtype)
    if name in ("decay", "v"):
        value = torch.rand(shape, device=WHERE)
        return (value.round() if name == "decay" else value * 1e-6).to(dtype)
    return normal(0.02 if role in ("P", "G") or name in ("m", "master") else 1.0)


def copies_of(of, axes, machine, floor: float) -> list[dict[str, torch.Tensor]]:
    """Every tensor of the contract, and of its forward, as often as outgrows the cache, and where
    there is room as often as makes calls of `floor` seconds last ENOUGH, up to CALLS times."""
    torch.manual_seed(0)
    dtypes, tensors = machine.precision.dtypes, {t.name: t for t in of.tensors}
    if of.direction == "backward":
        forward = contract.of(f"{of.operation}_forward")
        inputs = [t for t in forward.inputs if set(t.axes) <= set(axes)]
        tensors = {t.name: t for t in inputs} | tensors
    first = {name: drawn(name, t.role, t.shape(axes), axes, TORCH[dtypes[t.role]])
             for name, t in tensors.items()}
    nbytes = sum(first[t.name].nbytes for t in of.tensors)
    least = min(CALLS, ROOM // nbytes, math.ceil(ENOUGH / floor))
    count = max(1, least, min(48, -(-5 * machine.properties["level2"] // nbytes)))
    return [first] + [{n: t.clone() for n, t in first.items()} for _ in range(count - 1)]


def digest(tensors: list[torch.Tensor]) -> tuple:
    """Two sums over the bits of each tensor, one weighed by place."""
    found = []
    for tensor in tensors:
        bits = tensor.reshape(-1).view(torch.int16 if tensor.element_size() == 2 else torch.int32)
        for part in bits.split(1 << 26):
            wide = part.long()
            place = torch.arange(len(wide), device=WHERE) % 65521 + 1
            found += [int(wide.sum()), int((wide * place).sum())]
    return tuple(found)


class Shape:
    """One operation at one shape: its buffers, and every variant on them. `apart` is memory that is
    never timed, with contents that the timed copies get only when they are checked."""

    def __init__(self, of, axes, consts, machine, roof):
        self.of, self.axes, self.consts, self.machine = of, axes, consts, machine
        self.nbytes = bench.contract_bytes(of, axes, machine.precision.dtypes)
        self.operations = bench.contract_operations(of, axes)
        self.floors = roof.floors(self.nbytes, self.operations)
        self.copies = copies_of(of, axes, machine, max(self.floors.values()))
        self.starts = self._starts(self.copies[0])
        self.outputs = [t.name for t in of.outputs]
        torch.manual_seed(1)
        self.apart = {t.name: drawn(t.name, t.role, t.shape(axes), axes,
                                    self.copies[0][t.name].dtype) for t in of.tensors}
        self.apart_starts = self._starts(self.apart)

    def _starts(self, given: dict) -> dict[str, torch.Tensor]:
        return {t.name: given[t.name].clone() for t in self.of.tensors
                if t.access in ("sum", "inout")}

    def spoil(self, given: dict, starts: dict) -> None:
        """Outputs that are added to, or updated, as they were; others without any sense."""
        for name in self.outputs:
            given[name].copy_(starts[name]) if name in starts else given[name].fill_(-7)

    def restore(self) -> None:
        """Every timed copy's outputs, as above."""
        for given in self.copies:
            self.spoil(given, self.starts)
        settle()

    def renew(self) -> None:
        """The contents of `apart` in every timed copy."""
        for tensor in self.of.tensors:
            if tensor.access in ("in", "inout"):
                for given in self.copies:
                    given[tensor.name].copy_(self.apart_starts.get(tensor.name,
                                                                   self.apart[tensor.name]))
        self.starts = self.apart_starts

    def result(self, given, version) -> tuple:
        """Of what a version left: its bits where it claims to repeat them, else lengths."""
        outputs = [given[name] for name in self.outputs]
        if "deterministic" in version.claims:
            return digest(outputs)
        return tuple(float(tensor.double().norm()) for tensor in outputs)

    def ours(self, version, parameters) -> Variant:
        """A version in one configuration: loaded, run once, captured as a rotation."""
        machine, kernel = self.machine, self.machine.load(version, self.of, self.axes, parameters)
        words = " ".join([version.name, *(f"{k}={v}" for k, v in parameters.items())])
        scratch = {name: torch.zeros(shape, device=WHERE, dtype=TORCH[dtype])
                   for name, (dtype, shape, _) in kernel.scratch.items()}
        addresses = {name: t.data_ptr() for name, t in scratch.items()}
        calls = [kernel.bind({t.name: given[t.name].data_ptr() for t in self.of.tensors}
                             | addresses, self.consts) for given in self.copies]
        self.restore()
        first = machine.elapsed(calls[0], 1)[0] * 1e-3
        found = Variant(words, version, dict(parameters), scratch)
        found.fresh = self.alone(version, kernel.bind(
            {t.name: self.apart[t.name].data_ptr() for t in self.of.tensors} | addresses,
            self.consts))
        again = machine.replay(calls)
        found.again = lambda: (again(), machine.synchronize())
        if first > LONG:
            apart = [] if first > VERY_LONG else machine.elapsed(calls[0], 3)
            found.samples = [ms * 1e-3 for ms in apart] or [first]
            return found
        seconds = machine.elapsed(again, 2)[1] * 1e-3
        count = max(1, int(ENOUGH / max(seconds, 1e-7)))
        found.fault = self.unaccounted(again)
        found.sample = partial(self.clocked, again, count)
        found.samples = [found.sample()]
        return found

    def clocked(self, again, count: int) -> float:
        """Seconds of a call in `count` rotations one after the other. One more goes ahead of the
        clock, so that no launch is waited for; the clock looks at both ends alone, as it does for
        PyTorch: a look costs about as much as a launch."""
        def rotations() -> None:
            for _ in range(count):
                again()
        again()
        return self.machine.elapsed(rotations)[0] * 1e-3 / (count * len(self.copies))

    def _waited(self, again, count: int) -> float:
        """Seconds of so many rotations by the host's clock."""
        settle()
        begin = time.perf_counter()
        for _ in range(count):
            again()
        self.machine.synchronize()
        settle()
        return time.perf_counter() - begin

    def unaccounted(self, again) -> str:
        """What the host's clock saw that the device's did not: work on another stream, say. How
        many rotations that takes is the host's to say, too: of very many, whoever asks has to wait
        for the queue, and a clock that looks elsewhere sees that."""
        count = max(1, int(WALL / self._waited(again, 1)))
        events = sum(self.machine.elapsed(again, count)) * 1e-3
        wall = self._waited(again, count)
        return "" if wall <= HOST * events + IDLE else (
            f"{count} rotations took {wall:.3g} s, of which the device's clock saw {events:.3g} s")

    def peers(self) -> list[Variant]:
        """PyTorch's variants; one that it cannot do says why in `fault`."""
        found = []
        for name, compiled in ((EAGER, False), (COMPILED, True)):
            variant = Variant(name)
            more = {n: self.axes[n] for n in ("V", "H") if n in self.axes}
            more |= {"V": self.axes["Vp"]} if "Vp" in self.axes and "V" not in more else {}
            try:
                self.restore()
                many = bench_peers.calls(self.of, [{**g, **more} for g in self.copies], compiled)
                if many is None:
                    continue
                bench_peers.sampler(many, 2)()
                seconds = bench_peers.sampler(many, 2)() * len(many)
                variant.sample = bench_peers.sampler(many, max(1, int(ENOUGH / seconds)))
            except Exception as error:  # a peer that fails costs its own column, not the run
                variant.fault = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            found.append(variant)
        return found

    def alone(self, version, call) -> tuple:
        """What one call makes of contents and memory that are not timed; empty where numbers come
        out that are not finite."""
        self.spoil(self.apart, self.apart_starts)
        settle()
        call()
        self.machine.synchronize()
        sound = all(torch.isfinite(self.apart[name]).all() for name in self.outputs)
        return self.result(self.apart, version) if sound else ()

    def check(self, variant: Variant) -> None:
        """What the timed calls leave in each copy, of contents that are new to them, is what one
        call makes of the same contents in memory that was never timed."""
        if variant.fault:
            return
        if not all(given[t.name].any() for given in self.copies for t in self.of.inputs
                   if t.role in DRAWN):
            variant.fault = "it was timed on zeros"
            return
        if not variant.fresh:
            variant.fault = "it leaves numbers that are not finite"
            return
        self.renew()
        self.restore()
        variant.again()
        chance = 0 if "deterministic" in variant.version.claims else CHANCE
        found = [self.result(given, variant.version) for given in self.copies]
        if not all(abs(a - b) <= chance * abs(b) for one in found
                   for a, b in zip(one, variant.fresh, strict=True)):
            variant.fault = "its output when timed differs from that of a call on other memory"


def candidates(of, axes, ladder, machine) -> list[tuple]:
    """(version, parameters) that apply, compiled in threads."""
    found = []
    for version in ladder:
        try:
            every = machine.configurations(version, of, axes)
        except (NotApplicable, DeviceError) as error:
            if isinstance(error, DeviceGone):
                raise
            print(f"  {version.name}: not timed: {error}")
            continue
        found += [(version, p) for p in every
                  if not version.unmet_needs({**axes, **machine.values, **p})]

    def built(version, parameters):
        if version.language == "cu":
            cuda_code.cubin(version, machine.precision,
                            cuda_code.values_of(version, axes, parameters), machine.architecture)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda one: built(*one), found))
    return found


def time_shape(of, axes, consts, ladder, machine, roof, peers: bool) -> tuple[list[dict], list]:
    """(timing records of the versions' best configurations, every variant)."""
    shape, variants = Shape(of, axes, consts, machine, roof), []
    for version, parameters in candidates(of, axes, ladder, machine):
        try:
            variants.append(shape.ours(version, parameters))
        except (NotApplicable, DeviceError) as error:
            if isinstance(error, DeviceGone):
                raise
            variants.append(Variant(version.name, version, parameters, fault=str(error)))
    best = {}
    for one in variants:
        if one.samples:
            best[one.version.name] = min(best.get(one.version.name, 1e9), one.samples[0])
    near = [v for v in variants if v.sample and v.samples[0] <= CLOSE * best[v.version.name]]
    others = shape.peers() if peers else []
    itself = [replace(v, name=bench.NOISE, samples=[]) for v in near[:1]]
    rounds([*near, *itself, *(v for v in others if v.sample)])
    noise = bench.ratio(itself[0].samples, near[0].samples).median if near else 1.0
    apart = [v for v in variants if v.samples and not v.sample]
    for variant in [*near, *(v for v in apart if len(v.samples) > 1)]:
        shape.check(variant)
    records = [record(shape, v, others, roof, noise) for v in [*near, *apart]]
    return records, [*variants, *itself, *others]


def rounds(variants: list[Variant]) -> None:
    """One sample of each in random order, ROUNDS times; first sights are forgotten."""
    order, names = random.Random(0), list(variants)
    for variant in variants:
        variant.samples = []
    for _ in range(ROUNDS):
        order.shuffle(names)
        for variant in names:
            variant.samples.append(variant.sample())


def record(shape: Shape, variant: Variant, peers: list[Variant], roof, noise: float) -> dict:
    """One timing as the evidence keeps it; its ratio and verdict are against the quickest peer.
    `noise`: a kernel's time over its own, interleaved."""
    axes, machine = shape.axes, shape.machine
    seconds = statistics.median(variant.samples)
    nbytes, operations, floors = shape.nbytes, shape.operations, shape.floors
    roofed = max(floors, key=floors.get)
    variant.fault = variant.fault or roof.beaten(nbytes, operations, seconds)
    theirs = {v.name: statistics.median(v.samples) for v in peers if v.samples}
    quickest = min((v for v in peers if v.samples), key=lambda v: theirs[v.name], default=None)
    ratio = bench.ratio(variant.samples, quickest.samples) if quickest else None
    return {"version": variant.version.name, "device": machine.processor,
            "threads": machine.threads, "axes": dict(axes), "parameters": variant.parameters,
            "seconds": seconds, "samples": [float(f"{s:.4g}") for s in variant.samples],
            "peer": f"PyTorch {torch.__version__}",
            "peer_seconds": quickest and theirs[quickest.name],
            "eager_seconds": theirs.get(EAGER), "compiled_seconds": theirs.get(COMPILED),
            "ratio": ratio and ratio.median, "verdict": ratio and ratio.verdict(noise),
            "share": round(floors[roofed] / seconds, 4), "roof": roofed, "bytes": nbytes,
            "operations": operations, "ceilings": vars(roof), "fault": variant.fault,
            "date": time.strftime("%Y-%m-%d")}
