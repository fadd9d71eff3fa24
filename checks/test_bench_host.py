"""The bench of a processor: that it measures what passes, and refuses what is no work."""

import os
import statistics
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from checks import bench as command
from checks import bench_host
from ported import bench, bench_cuda, contract, device, source
from ported.contract import read_all

SIZES = {"B": 2, "T": 8, "N": 16, "C": 32, "O": 48, "H": 2, "D": 16, "V": 100, "Vp": 128,
         "Tmax": 16, "S": 3, "E": 256}
FREE = bench.Ceilings(1e30, 1e30, 1e30)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cpu():
    return device.open("cpu", threads=1)


def highest(name: str) -> source.Version:
    """The version of a contract with the highest number that applies at SIZES."""
    axes = axes_of(name)
    return [v for v in source.read_all().values() if v.contract_name == name
            and not v.unmet_needs({**axes, **v.configurations()[0], "threads": 1})][-1]


def axes_of(name: str) -> dict[str, int]:
    return {axis: SIZES[axis] for axis in contract.of(name).axes}


def timed(name: str, machine, version=None):
    """(Timed, contract, inputs) after a few calls, as a bench leaves them."""
    of, axes = contract.of(name), axes_of(name)
    version = version or highest(name)
    inputs, others = command.drawn(of, axes), command.drawn(of, axes, seed=1)
    found = bench_host.prepared(version, version.configurations()[0], of, axes, inputs, others,
                                machine)
    del found.calls[3:], found.memory[3:]
    bench.interleave({"a": found.calls}, rounds=2, least=1e-4)
    return found, of, inputs


@pytest.mark.parametrize("name", sorted(read_all()))
def test_honest_kernels_have_no_fault(name, cpu):
    """The highest version of every operation."""
    assert bench_host.fault(*timed(name, cpu)) == ""


def replaced(found, make):
    """The same with every call made anew by `make(plain call, arrays)`."""
    found.calls[:] = [make(call, arrays) for call, (arrays, _) in
                      zip(found.calls, found.memory, strict=True)]


def no_work(call, arrays):
    return lambda: None


def remembered(call, arrays):
    call()
    kept = arrays["out"].copy()
    return lambda: np.copyto(arrays["out"], kept)


def left_behind(call, arrays):
    import threading

    def later():
        time.sleep(0.01)
        call()
    return lambda: threading.Thread(target=later).start()


@pytest.mark.parametrize("cheat", [no_work, remembered])
def test_calls_that_do_not_work_are_a_fault(cheat, cpu):
    found, *rest = timed("gelu_forward", cpu)
    replaced(found, cheat)
    assert "differs" in bench_host.fault(found, *rest)


def test_every_copy_must_be_worked_on(cpu):
    for k in range(3):
        found, *rest = timed("gelu_forward", cpu)
        found.calls[k] = lambda: None
        assert "differs" in bench_host.fault(found, *rest)


def test_work_that_goes_on_behind_the_call_is_a_fault(cpu, monkeypatch):
    monkeypatch.setattr(bench_host, "PAUSE", 1.0)
    found, *rest = timed("gelu_forward", cpu)
    replaced(found, left_behind)
    assert "after the call has returned" in bench_host.fault(found, *rest)


def test_a_kernel_that_never_works_is_a_fault(cpu):
    found, *rest = timed("gelu_forward", cpu)
    found.expected["out"][0, 0] = np.nan
    assert "not finite" in bench_host.fault(found, *rest)


def test_other_contents_and_zeros_are_a_fault(cpu):
    found, of, inputs = timed("gelu_forward", cpu)
    found.memory[1][0]["inp"][...] = 0
    assert "other contents" in bench_host.fault(found, of, inputs)
    found, of, inputs = timed("gelu_forward", cpu)
    inputs["inp"][...] = 0
    for arrays, _ in found.memory:
        arrays["inp"][...] = 0
    assert "zeros" in bench_host.fault(found, of, inputs)


def waited(seconds):
    def call():
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
    return call


def test_a_known_time_is_found():
    """Kernels that wait: no sample is shorter than what passed, and few are much longer."""
    samples = bench.interleave({"short": [waited(2e-4)] * 3, "long": [waited(6e-4)] * 3}, rounds=5)
    for name, seconds in (("short", 2e-4), ("long", 6e-4)):
        assert min(samples[name]) >= seconds and len(samples[name]) == 5
        assert min(samples[name]) <= 2 * seconds, "a machine so busy that nothing can be timed"


def test_a_launch_that_fails_is_no_time():
    def fails():
        raise RuntimeError("refused")
    with pytest.raises(RuntimeError, match="refused"):
        bench.interleave({"a": [waited(1e-4)], "b": [fails]}, rounds=1)


def test_an_old_result_does_not_stand_where_a_new_one_is_due():
    of = contract.of("gelu_forward")
    arrays = {"inp": np.zeros((2, 3), np.float32), "out": np.ones((2, 3), np.float32)}
    bench_host.fill(of, arrays, {"inp": np.full((2, 3), 5, np.float32), "N": 2, "C": 3})
    assert np.isnan(arrays["out"]).all() and (arrays["inp"] == 5).all()


def test_every_call_of_a_rotation_is_made_and_counted():
    made = []
    calls = [lambda k=k: made.append(k) or waited(1e-4)() for k in range(4)]
    bench._sample(calls, 3)
    assert made == 3 * [0, 1, 2, 3]
    uneven = [waited(1e-4), waited(9e-4)]
    assert bench._sample(uneven, 2) >= 5e-4


def test_a_cold_first_call_does_not_count():
    def call():
        waited(2e-4 if call.warm else 5e-2)()
        call.warm = True
    call.warm = False
    assert max(bench.interleave({"peer": [call]}, rounds=5)["peer"]) < 2.5e-2


def test_the_verdict_is_an_interval_s():
    faster, slower = bench.Ratio(0.8, 0.7, 0.9), bench.Ratio(1.3, 1.2, 1.4)
    assert faster.verdict(1.0) == "FASTER" and slower.verdict(1.0) == "SLOWER"
    assert bench.Ratio(0.8, 0.6, 1.1).verdict(1.0) == "UNSURE"
    assert bench.Ratio(1.0, 0.99, 1.01).verdict(1.0) == "SAME"
    assert faster.verdict(1.15) == "UNSURE" and slower.verdict(0.7) == "UNSURE"
    assert bench.Ratio(0.95, 0.94, 0.96).verdict(1.1) != "FASTER"


def test_like_against_like_is_the_same_and_twice_is_not():
    draw = np.random.default_rng(0)
    one, other = (draw.normal(1, 0.02, 9).tolist() for _ in range(2))
    assert bench.ratio(one, other).verdict(1.0) in ("SAME", "UNSURE")
    assert bench.ratio(one, [2 * x for x in other]).verdict(1.0) == "FASTER"
    noisy = draw.lognormal(0, 0.5, (2, 9)).tolist()
    assert bench.ratio(*noisy).verdict(1.0) == "UNSURE"


def record_of(samples, roof=FREE, fault=""):
    of, version = contract.of("gelu_forward"), highest("gelu_forward")
    machine = SimpleNamespace(processor="here", threads=1)
    return command.record(version, {}, of, {"N": 64, "C": 128}, samples, [2.0] * len(samples), 1.0,
                          machine, roof, fault)


def test_a_record_takes_the_median_and_keeps_every_sample():
    samples = [1.0, 9.0, 3.0, 2.5, 4.0]
    found = record_of(samples)
    assert found["seconds"] == statistics.median(samples) and found["samples"] == samples
    assert found["peer_seconds"] == 2.0 and found["fault"] == ""
    assert found["bytes"] == 2 * 4 * 64 * 128


def test_a_time_below_its_floor_is_a_fault():
    """By the peak where there is one: a shared cache may hold what is timed."""
    nbytes = 2 * 4 * 64 * 128
    slow = bench.Ceilings(nbytes, 1e30)
    assert "below its floor" in record_of([0.5], slow)["fault"]
    assert record_of([0.5], bench.Ceilings(nbytes, 1e30, 4 * nbytes))["fault"] == ""
    assert "below its floor" in record_of([0.2], bench.Ceilings(nbytes, 1e30, 4 * nbytes))["fault"]
    assert "FMA" in bench.Ceilings(1e30, 10.0).beaten(4, 100, 9.0)
    assert record_of([0.5], fault="no work")["fault"] == "no work"


def test_the_pins_of_a_memory():
    """An H200's: 4.8 TB/s, past which no time may go."""
    found = bench_cuda.pins({"memory_clock": 3_201_000, "bus_bits": 6016})
    assert found == pytest.approx(4.814304e12)
    assert bench_cuda.pins({"memory_clock": 0, "bus_bits": 6016}) is None


def test_faults_are_not_kept(monkeypatch):
    kept = []
    monkeypatch.setattr(command.evidence, "write_timings",
                        lambda version, of, folder, timings, committed: kept.extend(timings))
    good, bad = record_of([2.0]), record_of([1.0], fault="no work")
    command.store([good, bad], {good["version"]: None}, None, SimpleNamespace(evidence=""),
                  SimpleNamespace(size="test", write=False))
    assert [timing["seconds"] for timing in kept] == [2.0]
    assert "FAULT: no work" in command.show(bad) and "FAULT" not in command.show(good)


def test_rotations_outgrow_the_private_caches():
    threads = os.cpu_count() or 1
    for nbytes in (1 << 16, 1 << 20, 40 << 20, 1 << 30):
        total = nbytes * bench.copies(nbytes, threads)
        assert total >= 5 * bench.level2() * threads or nbytes < 1 << 16
        assert bench.copies(nbytes, threads) == 1 or total < 300 << 20
    of, axes, memory = contract.of("layernorm_forward"), axes_of("layernorm_forward"), []
    command.our_calls(highest("layernorm_forward"), {}, of, axes, command.drawn(of, axes),
                      device.open("cpu", threads=1), memory)
    addresses = {arrays["inp"].ctypes.data for arrays, _ in memory}
    assert len(memory) == len(addresses) == bench.MOST


def test_contents_are_random():
    for name in ("gelu_forward", "layernorm_backward", "linear_forward"):
        of = contract.of(name)
        inputs = command.drawn(of, axes_of(name))
        for tensor in of.inputs:
            assert np.std(inputs[tensor.name]) > 0, (name, tensor.name)


def test_a_shape_is_timed_with_its_noise_and_its_faults(cpu, monkeypatch):
    """End to end: an honest version, one that does nothing, one that remembers by address."""
    of, axes = contract.of("residual_forward"), {"N": 64, "C": 128}
    version = highest("residual_forward")
    honest = command.time_shape(of, axes, [version], cpu, FREE)
    assert [r["fault"] for r in honest] == [""] and honest[0]["verdict"]
    plain = command.our_calls
    for cheat in (no_work, remembered):
        def lazy(*given, count=0, cheat=cheat):
            calls = plain(*given, count=count)
            memory = given[-1]
            return calls if count else [cheat(call, arrays) for call, (arrays, _) in
                                        zip(calls, memory, strict=True)]
        monkeypatch.setattr(command, "our_calls", lazy)
        assert "differs" in command.time_shape(of, axes, [version], cpu, FREE)[0]["fault"]
