"""The bench for GPUs, its bookkeeping tried on the emulated device: digests, peers, records."""

import time
from types import SimpleNamespace

import pytest
import torch

from checks import bench as bench_command
from checks import bench_cuda, bench_peers, bench_step_cuda, bench_variants, torch_on_gpu
from ported import bench, contract, device, source


class Timed:
    """The emulated device with the clock and the properties of a GPU."""

    def __init__(self, precision):
        self.inner, self.properties = device.open("emulated", precision=precision), {"level2": 1000}
        self.architecture = "none"

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def elapsed(self, call, repeats=1):
        found = []
        for _ in range(repeats):
            begin = time.perf_counter()
            call()
            found.append((time.perf_counter() - begin) * 1e3)
        return found

    def configurations(self, version, of, axes):
        return version.configurations()[:2]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """PyTorch on the processor; its calls by the host's clock; nothing compiled for a GPU."""
    def sampler(many, repeats):
        def sample():
            begin = time.perf_counter()
            for call in many:
                call()
            return (time.perf_counter() - begin) / len(many)
        return sample
    monkeypatch.setattr(bench_variants, "WHERE", "cpu")
    monkeypatch.setattr(bench_variants, "ROUNDS", 2)
    monkeypatch.setattr(bench_variants, "ENOUGH", 1e-6)
    monkeypatch.setattr(bench_variants, "WALL", 1e-4)
    monkeypatch.setattr(bench_variants, "IDLE", 60.0)  # the host's clock is the only one here
    monkeypatch.setattr(bench_variants, "LONG", 60.0)
    monkeypatch.setattr(bench_peers, "sampler", sampler)
    monkeypatch.setattr(bench_variants.cuda_code, "cubin", lambda *arguments: None)


AXES = {"layernorm_forward": {"N": 6, "C": 32}, "layernorm_backward": {"N": 6, "C": 32},
        "gelu_forward": {"N": 4, "C": 64}, "adamw_master_update": {"S": 2, "E": 256},
        "classifier_forward": {"N": 4, "Vp": 128, "V": 100}, "residual_backward": {"N": 4, "C": 32},
        "global_norm_update": {"S": 3, "E": 256}}


def test_a_floor_that_is_beaten_is_a_fault():
    of, machine = contract.of("gelu_forward"), Timed("float32")
    version = source.read_all(language="cu")["gelu_forward_01"]
    records, _ = bench_variants.time_shape(of, AXES["gelu_forward"], {}, [version], machine,
                                           bench.Ceilings(1.0, 1.0), peers=False)
    assert all("below its floor" in record["fault"] for record in records)


def gelu(machine=None):
    """A shape of GELU and its first version, ready to be timed."""
    of = contract.of("gelu_forward")
    shape = bench_variants.Shape(of, AXES["gelu_forward"], {}, machine or Timed("float32"),
                                 bench.Ceilings(1e30, 1e30))
    return shape, shape.ours(source.read_all(language="cu")["gelu_forward_01"], {"block": 128})


def test_honest_work_is_no_fault():
    shape, variant = gelu()
    assert len(shape.copies) > 2 and not variant.fault
    for _ in range(2):
        shape.check(variant)
        assert not variant.fault


def nothing(shape, again):
    return lambda: None


def remembered(shape, again):
    """What the first rotation gave, whatever the inputs are now."""
    again()
    kept = [given["out"].clone() for given in shape.copies]

    def served():
        for given, out in zip(shape.copies, kept, strict=True):
            given["out"].copy_(out)
    return served


def ends_alone(shape, again):
    """Some launches of many: copies between the first and the last are left out."""
    def some():
        before = [given["out"].clone() for given in shape.copies]
        again()
        for given, out in list(zip(shape.copies, before, strict=True))[1:-1]:
            given["out"].copy_(out)
    return some


@pytest.mark.parametrize("cheat", [nothing, remembered, ends_alone])
def test_timed_calls_that_do_not_work_are_a_fault(cheat):
    shape, variant = gelu()
    variant.again = cheat(shape, variant.again)
    shape.check(variant)
    assert "differs" in variant.fault


def test_zeros_are_a_fault():
    shape, variant = gelu()
    shape.copies[1]["inp"].zero_()
    shape.check(variant)
    assert "zeros" in variant.fault


class Blind(Timed):
    """A clock that sees next to nothing: the work goes on elsewhere."""

    def elapsed(self, call, repeats=1):
        return [ms / 1e4 for ms in super().elapsed(call, min(repeats, 20))]


def test_work_that_the_device_s_clock_does_not_see_is_a_fault(monkeypatch):
    monkeypatch.setattr(bench_variants, "IDLE", 0.0)
    assert "rotations took" in gelu(Blind("float32"))[1].fault
    monkeypatch.setattr(bench_variants, "HOST", 100.0)  # two looks at a machine that is busy
    assert not gelu()[1].fault


def test_a_kernel_against_itself_is_the_noise(monkeypatch):
    of, machine = contract.of("residual_forward"), Timed("float32")
    version = source.read_all(language="cu")["residual_forward_01"]
    said = []
    plain = bench.Ratio.verdict
    monkeypatch.setattr(bench.Ratio, "verdict",
                        lambda self, noise: said.append(noise) or plain(self, noise))
    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)
    _, variants = bench_variants.time_shape(of, {"N": 4, "C": 32}, {}, [version], machine,
                                            bench.Ceilings(1e30, 1e30), peers=True)
    (itself,) = [v for v in variants if v.name == bench.NOISE]
    ours = [v for v in variants if v.version is version and v is not itself]
    assert said[0] in [bench.ratio(itself.samples, v.samples).median for v in ours] and said[0] != 1


def test_the_verdict_is_against_the_quickest_peer():
    shape, variant = gelu()
    variant.samples = [2.0] * 7
    peers = [bench_variants.Variant(bench_variants.EAGER, samples=[4.0] * 7),
             bench_variants.Variant(bench_variants.COMPILED, samples=[1.0] * 7)]
    found = bench_variants.record(shape, variant, peers, bench.Ceilings(1e30, 1e30), noise=1.0)
    assert found["ratio"] == 2.0 and found["verdict"] == "SLOWER" and found["peer_seconds"] == 1.0
    found = bench_variants.record(shape, variant, peers[:1], bench.Ceilings(1e30, 1e30), noise=1.0)
    assert found["ratio"] == 0.5 and found["verdict"] == "FASTER"


def test_copies_are_random_and_outgrow_the_cache():
    of, machine = contract.of("layernorm_forward"), Timed("float32")
    axes, machine.properties = {"N": 6, "C": 32}, {"level2": 5000}
    copies = bench_variants.copies_of(of, axes, machine, 1e-6)
    nbytes = sum(copies[0][t.name].nbytes for t in of.tensors)
    assert (len(copies) - 1) * nbytes < 5 * machine.properties["level2"] <= len(copies) * nbytes
    for tensor in of.inputs:
        assert copies[0][tensor.name].std() > 0, tensor.name
    addresses = {given["inp"].data_ptr() for given in copies}
    assert len(addresses) == len(copies)


def test_a_rotation_of_short_calls_has_several_where_they_have_room(monkeypatch):
    of, machine = contract.of("gelu_forward"), Timed("float32")

    def count(C, floor):
        return len(bench_variants.copies_of(of, {"N": 4, "C": C}, machine, floor))
    assert count(512, bench_variants.ENOUGH / 100) == bench_variants.CALLS
    assert count(512, bench_variants.ENOUGH / 2.5) == 3
    assert count(512, bench_variants.ENOUGH * 10) == 1
    monkeypatch.setattr(bench_variants, "ROOM", 3 * 2 * 4 * 4 * 512)
    assert count(512, bench_variants.ENOUGH / 100) == 3
    assert count(4096, bench_variants.ENOUGH / 100) == 1


def test_a_sample_is_seconds_a_call():
    """Of a clock on which a call takes 3 ms; a rotation ahead of it is not counted."""
    shape, variant = gelu()
    asked = []

    def elapsed(call, repeats=1):
        call()
        return [3.0 * sum(asked[1:])] * repeats
    shape.machine.elapsed = elapsed
    assert shape.clocked(lambda: asked.append(len(shape.copies)), 5) == pytest.approx(3e-3)
    assert len(asked) == 6


def test_what_has_a_fault_is_not_kept(monkeypatch):
    kept = []
    monkeypatch.setattr(bench_cuda.evidence, "write_timings",
                        lambda version, of, folder, timings, committed: kept.extend(timings))
    version = source.read_all(language="cu")["gelu_forward_01"]
    one = {"version": version.name, "seconds": 1.0, "fault": ""}
    machine = SimpleNamespace(evidence="here")
    arguments = SimpleNamespace(size="test", write=False)
    bench_cuda.keep([one, {**one, "seconds": 0.1, "fault": "below its floor"}], [version], None,
                    machine, arguments)
    assert [timing["seconds"] for timing in kept] == [1.0]


def test_shapes_are_those_of_a_step():
    found = bench_cuda.shapes("gpt2", 64, 1024, 8192)
    assert {"N": 8192, "C": 768, "Vp": 50304} in [a for a, _ in found["head_forward"].values()]
    assert len(found["linear_forward"]) == 4 and "adamw_master_update" in found
    arguments = SimpleNamespace(size="test", B=2, T=16, rows=16, only="gelu_*", unproved=True)
    machine = Timed("float32")
    chosen = bench_cuda.chosen(arguments, machine, contract.read_all())
    assert {"gelu"} <= {of.operation for of, *_ in chosen} <= {"gelu", "gelu_linear"}


def test_a_bench_is_resumed_and_leaves_timings(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_cuda.bench_cuda, "ceilings", lambda m: bench.Ceilings(1e30, 1e30))
    kept = []
    monkeypatch.setattr(bench_cuda.evidence, "write_timings",
                        lambda version, of, folder, timings, committed: kept.extend(timings))
    arguments = SimpleNamespace(size="test", B=2, T=16, rows=16, only="residual_forward",
                                peers=True, unproved=True, again=False, write=False,
                                out=str(tmp_path / "raw.json"))
    machine = Timed("bfloat16")
    assert bench_cuda.run(arguments, machine) == 0
    assert {t["version"] for t in kept} >= {"residual_forward_01"} and kept[0]["label"] == "test"
    assert all(t["device"] == machine.processor for t in kept)
    said = capsys.readouterr().out
    assert "residual_forward C=32 N=32" in said and "roofline" in said
    assert bench_cuda.run(arguments, machine) == 0
    assert "versions at hand" in capsys.readouterr().out


def test_pytorch_without_a_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(device.DeviceError, match="found PyTorch .* reaches no GPU; expected .*pip"):
        torch_on_gpu.require()
    asked = SimpleNamespace(size="", batch=0, B=0, T=0, step=True)
    with pytest.raises(device.DeviceError, match="reaches no GPU"):
        bench_command.bench_on_cuda(asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    torch_on_gpu.require()


def test_the_sides_of_a_step_begin_alike(monkeypatch):
    """The same weights and tokens: their first losses agree but for PyTorch's padding."""
    monkeypatch.setattr(torch, "compile", lambda function: function)
    flags = ["--model", "test", "--batch", "2", "--sequence-length", "16", "--threads", "1"]
    ours = bench_step_cuda.PortedSide(flags, unproved=True)
    theirs = bench_step_cuda.TorchSide(flags, "", place="cpu")
    mine, others = ours.steps(3), theirs.steps(3)
    assert 0 < others[0] - mine[0] < 0.3 and mine[0] == pytest.approx(5.7, abs=0.1)
    assert len(ours.parts()) > 20 and ours.memory()["planned"] > 0
    side = {"seconds": [1.0, 1.1], "memory": theirs.memory(), "losses": others, "parts": []}
    found = {"ported": {**side, "parts": ours.parts(), "memory": ours.memory()}, "torch": side}
    assert "of its tokens/s" in bench_step_cuda.show(found, 32)


@pytest.mark.parametrize("name", AXES)
def test_every_version_is_timed_and_its_output_kept(name, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)
    of, machine = contract.of(name), Timed("bfloat16")
    ladder = [v for v in source.read_all(language="cu").values()
              if v.contract_name == name and v.language == "cu"
              and v.supports(machine.precision, of.roles)][:3]
    assert ladder, f"no version of {name} in bfloat16"
    roof = bench.Ceilings(1e30, 1e30)
    records, variants = bench_variants.time_shape(of, AXES[name], dict(of.consts), ladder, machine,
                                                  roof, peers=True)
    assert {r["version"] for r in records} == {v.name for v in ladder}
    assert not [v.fault for v in variants if v.fault]
    assert bench_cuda.show(records[0]).strip().startswith(records[0]["version"])
    if name == "residual_backward":
        assert records[0]["peer_seconds"] is None
    else:
        assert records[0]["eager_seconds"] > 0 and records[0]["verdict"]
