"""PyTorch's side of a bench on a GPU: it does the contract's work, and no launch is waited for."""

from functools import partial

import pytest
import torch

from checks import bench_peers
from reference.explicit import adamw, adamw_master


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masters", [False, True])
def test_pytorchs_adamw_does_the_contracts_work(masters, dtype, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **settings: function)
    torch.manual_seed(0)
    weight = torch.randn(6, 256) * 0.02
    given = {"weight": weight.to(dtype), "dweight": torch.randn(6, 256), "m": torch.randn(6, 256),
             "v": torch.rand(6, 256), "decay": torch.tensor([0.0, 1, 1, 0, 1, 0]),
             "scale": torch.tensor([0.5]), "lr": torch.tensor(1e-2),
             "t": torch.tensor(3, dtype=torch.int32)}
    given |= {"master": weight} if masters else {}
    explicit = adamw_master.update if masters else adamw.update
    wanted = explicit(**{name: tensor.clone() for name, tensor in given.items()
                         if not masters or name != "weight"})
    bench_peers.update_call("adamw", given, compiled=True)()
    assert len(wanted) == 3 + masters
    for name, tensor in wanted._asdict().items():
        expected = tensor.to(given[name].dtype)  # rounded once, as the contract has it
        unit = torch.finfo(given[name].dtype).eps  # another order of sums may round the other way
        torch.testing.assert_close(given[name], expected, rtol=max(unit, 1e-5), atol=1e-7)


class Gpu:
    """torch.cuda as far as a sampler sees it, with a clock of its own: a sleep lasts its cycles, a
    call `length` once it is reached, and asking for it takes the host `asking`."""

    def __init__(self, length, asking):
        self.host, self.busy, self.length, self.asking = 0.0, 0.0, length, asking
        self.sleeps, self.calls = [], 0

    def _sleep(self, cycles):
        self.sleeps.append(cycles)
        self.busy = max(self.busy, self.host) + cycles

    def call(self):
        self.calls += 1
        self.host += self.asking
        self.busy = max(self.busy, self.host) + self.length

    def synchronize(self):
        self.host = max(self.host, self.busy)


class Event:
    def __init__(self, gpu, enable_timing):
        self.gpu, self.at = gpu, 0.0

    def record(self):
        self.at = max(self.gpu.busy, self.gpu.host)

    def query(self):
        return self.at <= self.gpu.host

    def elapsed_time(self, other):
        return (other.at - self.at) * 1e3  # of cycles that are seconds here, milliseconds


@pytest.mark.parametrize(("asking", "sleeps"), [(1.0, 1), (bench_peers.SLEEP / 5, 3)])
def test_a_sample_holds_no_waiting_for_launches(asking, sleeps, monkeypatch):
    gpu = Gpu(1000.0, asking)
    monkeypatch.setattr(torch, "cuda", gpu)
    gpu.Event = partial(Event, gpu)
    sample = bench_peers.sampler([gpu.call, gpu.call], 5)
    assert sample() == pytest.approx(1000.0)
    assert gpu.sleeps == [bench_peers.SLEEP * 2**k for k in range(sleeps)]
    assert gpu.calls == 12 * sleeps  # a rotation goes ahead of the clock
    before = len(gpu.sleeps)
    sample()
    assert len(gpu.sleeps) == before + 1  # the longer sleep is kept


def test_a_queue_that_no_sleep_outlasts_is_timed_as_it_is(monkeypatch):
    gpu = Gpu(1.0, 1e9)
    monkeypatch.setattr(torch, "cuda", gpu)
    gpu.Event = partial(Event, gpu)
    bench_peers.sampler([gpu.call], 3)()
    assert gpu.sleeps[-1] == bench_peers.LONGEST and len(gpu.sleeps) == 6
