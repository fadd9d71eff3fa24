"""Where a run begins: sizes, program, kernels and lock, without running a step."""

from types import SimpleNamespace

import pytest

from ported import evidence, run_shape
from ported.executor import contracts_of, wanted
from ported.training import start
from ported.training.config import Config
from ported.training.start import Start
from reference.program import ProgramError
from reference.programs import gpt2

SIZE = gpt2.config("test")
DEVICE = SimpleNamespace(identity={"device": "cpu", "threads": "3"})


@pytest.fixture
def proofs(monkeypatch):
    """Evidence that knows every kernel; what it was asked stands in the returned namespace."""
    asked = SimpleNamespace(use=None, obeyed=None, ensured=None)

    def choose(needs, contracts, device, use=()):
        asked.use = list(use)
        return dict.fromkeys(needs, "chosen")

    def obey(lock, contracts, device):
        asked.obeyed = lock
        return dict.fromkeys(lock["kernels"], "locked")

    def ensure(steps, contracts, device, say):
        asked.ensured = steps
        return 2, len(steps) - 2
    monkeypatch.setattr(evidence, "choose", choose)
    monkeypatch.setattr(evidence, "obey", obey)
    monkeypatch.setattr(evidence, "lock", lambda chosen, contracts, device: {
        "identity": dict(device.identity), "kernels": dict(chosen)})
    monkeypatch.setattr(run_shape, "ensure", ensure)
    return asked


def test_kernels_are_chosen_and_proved(proofs):
    config = Config(use="gelu_forward_02,linear_forward_03", sequence_length=16)
    program, said = start.program_of(config, SIZE), []
    chosen, lock = start.kernels_for(program, DEVICE, Start(config, SIZE), said.append)
    needs = wanted(program, contracts_of(program))
    assert set(chosen) == set(needs) == set(proofs.ensured) and lock["kernels"] == chosen
    assert proofs.use == ["gelu_forward_02", "linear_forward_03"] and proofs.obeyed is None
    assert all(proofs.ensured[key] == ("chosen", axes, consts)
               for key, (_, axes, consts) in needs.items())
    assert said == [f"{len(needs)} kernels proved at these shapes, {len(needs) - 2} of them before"]


def test_lock_is_obeyed_and_kept(proofs):
    config, said = Config(sequence_length=16), []
    program = start.program_of(config, SIZE)
    kernels = dict.fromkeys(wanted(program, contracts_of(program)), {"version": "x"})
    lock = {"identity": {"device": "cpu", "threads": "2"}, "kernels": kernels}
    begun = Start(config, SIZE, state={"lock": lock})
    assert begun.threads == 2 and Start(Config(threads=5), SIZE).threads == 5
    chosen, kept = start.kernels_for(program, DEVICE, begun, said.append)
    assert kept is lock and proofs.obeyed is lock and set(chosen.values()) == {"locked"}
    assert "not bit for bit" in said[0]
    anew = Start(Config(relock=True, sequence_length=16), SIZE, state={"lock": lock})
    assert anew.lock is None and anew.threads is None
    assert start.kernels_for(program, DEVICE, anew, said.append)[1]["identity"]["threads"] == "3"


def test_program_follows_the_flags():
    config = Config(beta1=0.8, epsilon=1e-6, weight_decay=0.0, clip=2.0, sequence_length=16,
                    head_chunks=4, fuse="none")
    program = start.program_of(config, SIZE)
    (norm,), (adamw,) = program.passes["norm"], program.passes["update"]
    assert norm.consts == {"max_norm": 2.0}
    assert adamw.consts == {"beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.0}
    assert program.buffers["logits"].shape[0] == 8 * 16 // 4
    operations = {step.op for steps in program.passes.values() for step in steps}
    assert "residual_forward" in operations and "linear_gelu_forward" not in operations
    fused = start.program_of(Config(sequence_length=16), SIZE)
    assert "linear_gelu_forward" in {step.op for step in fused.passes["forward"]}


def test_moments_lie_where_their_weights_do():
    program = start.program_of(Config(sequence_length=16), SIZE)
    for name, weight in program.members("parameters").items():
        for kind in "mv":
            moment = program.buffers[f"{name}.{kind}"]
            assert (moment.region, moment.offset, moment.shape) == (
                kind, weight.offset, weight.shape)


@pytest.mark.parametrize("rows, chunks", [(512, 1), (513, 3), (1024, 2), (521, 1), (4096, 8)])
def test_logits_in_chunks(rows, chunks):
    assert start._chunks(rows) == chunks


def test_unknown_fusion_is_refused():
    with pytest.raises(ProgramError, match="nonsense"):
        start.program_of(Config(fuse="nonsense", sequence_length=16), SIZE)
