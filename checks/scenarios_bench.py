"""The bench's scenarios: a clock that only kernels move, cheats, and kernels called repeatedly.

See checks/scenarios.py. Nothing here depends on how long anything takes.
"""

import time
from types import SimpleNamespace

import numpy as np

Facts = dict[str, str]
SIZES = {"N": 16, "C": 32, "V": 100, "Vp": 128}
KERNELS = ("gelu_forward", "residual_forward", "cross_entropy_forward", "layernorm_forward")


class Clock:
    """Time that passes where a kernel says so."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def kernel(self, *seconds: float):
        """A call that takes these, one after the other, the last for ever."""
        left = list(seconds)

        def call():
            self.now += left.pop(0) if len(left) > 1 else left[0]
        return call


def clock() -> Facts:
    """Samples of kernels whose times are known, and what is made of samples."""
    from ported import bench

    moved, plain = Clock(), bench.time
    bench.time = moved
    try:
        variants = {"even": [moved.kernel(1e-3)] * 3, "cold": [moved.kernel(0.5, 1e-3)],
                    "uneven": [moved.kernel(1e-3), moved.kernel(3e-3)], "slow": [moved.kernel(2.0)]}
        facts = {f"samples of {name}": repr([round(s, 9) for s in found])
                 for name, found in bench.interleave(variants, rounds=4).items()}
        try:
            bench.interleave({"fails": [lambda: 1 / 0]}, rounds=1)
            facts["a launch that fails"] = "was timed"
        except ZeroDivisionError:
            facts["a launch that fails"] = "is an error"
    finally:
        bench.time = plain
    draw = np.random.default_rng(1)
    for name, spread in (("quiet", 0.01), ("noisy", 0.4)):
        a, b = draw.lognormal(0, spread, (2, 9))
        facts |= {f"{name}, {share} against 1, noise {noise}": str(
            (bench.ratio(share * a, b), bench.ratio(share * a, b).verdict(noise)))
            for share in (0.8, 0.95, 1.0, 1.3) for noise in (1.0, 1.15)}
    roof = bench.Ceilings(100.0, 10.0, 400.0)
    facts |= {f"beaten: {case}": roof.beaten(*case) for case in (
        (400, 1, 0.5), (400, 1, 2.0), (4, 100, 2.0), (4000, 1, 5.0), (400, 100, 5.0))}
    return facts | {f"copies of {n} bytes": str(bench.copies(n, 2)) for n in (
        1 << 12, 1 << 16, 1 << 20, 1 << 27)}


def bookkeeping() -> Facts:
    """Contents, bytes, records, and what is kept of them, on a processor."""
    from checks import bench as command
    from ported import bench, contract, device, source

    facts, cpu = {}, device.open("cpu", threads=1)
    for name in ("layernorm_backward", "gelu_forward", "embedding_backward"):
        of = contract.of(name)
        axes = {axis: {**SIZES, "B": 2, "T": 8, "Tmax": 9}[axis] for axis in of.axes}
        facts[f"{name}: bytes"] = str(bench.contract_bytes(of, axes))
        facts[f"{name}: FLOPs"] = str(bench.contract_operations(of, axes))
    of, version = contract.of("gelu_forward"), source.read_all()["gelu_forward_02"]
    inputs, memory = command.drawn(of, SIZES), []
    command.our_calls(version, {}, of, SIZES, inputs, cpu, memory, count=2)
    facts["contents"] = str([float(arrays["inp"].std()) for arrays, _ in memory])
    roof = bench.Ceilings(1e30, 1e30, 1e30)
    told = [command.record(version, {}, of, {"N": 4, "C": 4}, samples, [1.0, 2.0, 9.0], 1.0, cpu,
                           roof, fault)
            for samples, fault in (([3.0, 1.0, 2.5], ""), ([0.1], "no work"))]
    facts |= {f"record {k}, {key}": str(one.get(key)) for k, one in enumerate(told)
              for key in ("seconds", "verdict", "fault", "peer_seconds")}
    kept, plain = [], command.evidence.write_timings
    command.evidence.write_timings = lambda version, of, folder, timings, committed: kept.extend(
        timings)
    try:
        command.store(told, {version.name: version}, of, cpu,
                      SimpleNamespace(size="test", write=False))
    finally:
        command.evidence.write_timings = plain
    return facts | {"kept": str([one["seconds"] for one in kept])}


def cheats() -> Facts:
    """What the bench's own check makes of calls that do not work."""
    import threading

    from checks import bench as command
    from checks import bench_host
    from ported import contract, device, source

    of, cpu, facts = contract.of("gelu_forward"), device.open("cpu", threads=1), {}
    version, given = source.read_all()["gelu_forward_02"], command.drawn(of, SIZES)

    def late(call):
        return lambda: threading.Thread(target=lambda: (time.sleep(0.05), call())).start()
    ways = {"honest": lambda k, call: call, "nothing": lambda k, call: lambda: None,
            "the last alone": lambda k, call: call if k == 2 else lambda: None,
            "late": lambda k, call: late(call)}
    plain, bench_host.PAUSE = bench_host.PAUSE, 0.5
    for name, way in ways.items():
        found = bench_host.prepared(version, {}, of, SIZES, given,
                                    command.drawn(of, SIZES, seed=1), cpu)
        del found.calls[3:], found.memory[3:]
        found.calls[:] = [way(k, call) for k, call in enumerate(found.calls)]
        facts[name] = bench_host.fault(found, of, given)
    bench_host.PAUSE = plain
    arrays = {"inp": np.ones((16, 32), np.float32), "out": np.ones((16, 32), np.float32)}
    bench_host.fill(of, arrays, given)
    return facts | {"spoilt": str(np.isnan(arrays["out"]).all())}


def contents() -> Facts:
    """How many different contents a shape is timed and checked with."""
    from checks import bench as command
    from ported import contract, device

    found, draw = set(), command.drawn

    def watched(*given, **more):
        inputs = draw(*given, **more)
        found.add(inputs["inp1"].tobytes())
        return inputs
    command.drawn = watched
    try:
        command.time_shape(contract.of("residual_forward"), SIZES, [],
                           device.open("cpu", threads=1), SimpleNamespace())
    finally:
        command.drawn = draw
    return {"contents": str(len(found))}


def called_again() -> Facts:
    """Kernels of the processor on the same memory with other contents, again and again, and a
    moment after they have returned."""
    from checks import bench as command
    from checks.scenarios import digest
    from ported import contract, device, source

    cpu, facts = device.open("cpu", threads=1), {}
    for name in KERNELS:
        of = contract.of(name)
        version = [v for v in source.read_all().values() if v.contract_name == name][-1]
        axes = {axis: {**SIZES, "N": 1 << 12}[axis] for axis in of.axes}
        inputs, memory = command.drawn(of, axes), []
        (call,) = command.our_calls(version, version.configurations()[0], of, axes, inputs, cpu,
                                    memory, count=1)
        arrays = memory[0][0]
        for turn in range(14):
            for tensor in of.outputs:
                arrays[tensor.name][...] = np.nan
            for key in inputs.keys() & arrays.keys():
                arrays[key][...] = np.roll(inputs[key], turn, 0)
            call()
            facts |= {f"{name}, call {turn}: {t.name}": digest(arrays[t.name]) for t in of.outputs}
            facts |= {f"{name}, call {turn}: {t.name}": digest(arrays[t.name]) for t in of.inputs}
    return facts


class Timed:
    """The emulated device with the clock and the properties of a GPU."""

    def __init__(self, slow: float = 1.0):
        from ported import device

        self.inner, self.slow = device.open("emulated", precision="float32"), slow
        self.properties, self.architecture = {"level2": 10_000}, "none"

    def __getattr__(self, name: str):
        return getattr(self.inner, name)

    def elapsed(self, call, repeats: int = 1) -> list[float]:
        """Every call takes a millisecond, or `slow` times as long."""
        for _ in range(repeats):
            call()
        return [self.slow] * repeats


def on_a_gpu() -> Facts:
    """The bench of GPUs on the emulated device: copies, cheats, its two clocks."""
    from checks import bench_variants
    from ported import bench, contract, source

    roof = bench.Ceilings(1e30, 1e30)
    bench_variants.WHERE, bench_variants.ENOUGH, bench_variants.LONG = "cpu", 1e-6, 60.0
    bench_variants.WALL, bench_variants.IDLE, bench_variants.ROUNDS = 1e-4, 60.0, 3
    version = source.read_all(language="cu")["gelu_forward_01"]
    of, axes, facts = contract.of("gelu_forward"), {"N": 4, "C": 64}, {}
    shape = bench_variants.Shape(of, axes, {}, Timed(), roof)
    facts["copies"] = str(len(shape.copies))
    facts["contents"] = str([round(float(given["inp"].std()), 6) for given in shape.copies])
    for name in ("honest", "ends"):
        variant = shape.ours(version, {"block": 128})
        plain = variant.again

        def ends(plain=plain):
            before = [given["out"].clone() for given in shape.copies]
            plain()
            for given, out in list(zip(shape.copies, before, strict=True))[1:-1]:
                given["out"].copy_(out)
        variant.again = ends if name == "ends" else plain
        for _ in range(12):
            plain()
        shape.check(variant)
        facts[f"{name}: fault"] = variant.fault
    bench_variants.IDLE = 0.0
    blind = bench_variants.Shape(of, axes, {}, Timed(1e-9), roof).ours(
        version, {"block": 128})
    return facts | {"blind clock": str(bool(blind.fault))}


def kept_of_a_gpu() -> Facts:
    """Which timings of a GPU are kept, and the noise that a verdict is given."""
    from checks import bench_cuda, bench_variants
    from ported import bench, contract, source

    bench_variants.WHERE = "cpu"
    version = source.read_all(language="cu")["gelu_forward_01"]
    of, kept, said = contract.of("gelu_forward"), [], []
    plain, verdict = bench_cuda.evidence.write_timings, bench.Ratio.verdict
    bench_cuda.evidence.write_timings = lambda version, of, folder, timings, committed: kept.extend(
        timings)
    bench.Ratio.verdict = lambda self, noise: said.append(noise)
    try:
        one = {"version": version.name, "seconds": 1.0, "fault": ""}
        bench_cuda.keep([one, {**one, "seconds": 0.1, "fault": "x"}], [version], of,
                        SimpleNamespace(evidence=""), SimpleNamespace(size="", write=False))
        roof = bench.Ceilings(1e30, 1e30)
        shape = bench_variants.Shape(of, {"N": 4, "C": 64}, {}, Timed(), roof)
        variant = bench_variants.Variant("ours", version, samples=[1.0, 2.0])
        peer = bench_variants.Variant("peer", samples=[1.0, 1.0])
        bench_variants.record(shape, variant, [peer], roof, 1.25)
    finally:
        bench_cuda.evidence.write_timings, bench.Ratio.verdict = plain, verdict
    return {"kept": str([r["seconds"] for r in kept]), "noise": str(said)}


SCENARIOS = {f"bench {function.__name__.replace('_', ' ')}": function for function in (
    clock, bookkeeping, contents, cheats, called_again, on_a_gpu, kept_of_a_gpu)}
