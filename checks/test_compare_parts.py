"""What --bisect names beside kernels: program, plan, the trainer's parts, what a resume brings."""

from dataclasses import replace

import pytest

import train
from checks import (
    compare_program,
    compare_runs,
    compare_trainer,
    guard_compare,
    runs,
    stock_runs,
    training_run,
)
from ported.training import start
from ported.training.config import parse
from reference import rewrites
from reference.explicit import gelu
from reference.programs import gpt2


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    flags = training_run.learnable(tmp_path_factory.mktemp("parts"))
    return parse([*flags, *guard_compare.FLAGS, *guard_compare.WHOLE])[0]


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    monkeypatch.setattr(start, "kernels_for",
                        lambda program, device, begun, say: (runs.kernels(program, device), {}))


@pytest.fixture
def walked(config):
    """(executor, size, first weights, the state after a step by stock)."""
    size = start.begin(config, {}).size
    first = compare_runs.first_weights(config, size)
    ported = compare_runs.Ported(config, first, {}, lambda text: None)
    loader = compare_runs.loader(config, lambda text: None, size.V)
    truth = stock_runs.StockRun(stock_runs.TRUTH, config, size, first)
    truth.step(loader.next(config.batch), config.learning_rate)
    return ported.executor, size, first, compare_runs.next_state(config, truth, loader)


def wrong(parts) -> list[str]:
    """What is named, in order."""
    return list(dict.fromkeys(part.operation for part in parts if not part.accepted))


def test_an_honest_checkout_holds(walked, config):
    executor, size, first, state = walked
    parts = [*compare_program.program(executor, config, size, state),
             *compare_program.plan(executor), *compare_trainer.judged(executor, config, first)]
    assert not wrong(parts), [str(part) for part in parts if not part.accepted]
    assert {part.mode for part in parts} == {"program", "plan", "trainer", "kept"}
    named = {part.operation for part in parts if part.mode == "program"}
    assert named >= {"gelu_linear_backward", "adamw_update", "classifier_forward", "head_backward"}


def test_a_wrong_formula_is_named(walked, config, monkeypatch):
    executor, size, _, state = walked
    plain = gelu.backward
    monkeypatch.setattr(gelu, "backward", lambda dout, inp: gelu.Backward(
        plain(dout, inp).dinp * (1 + 1e-9)))
    found = wrong(compare_program.program(executor, config, size, state))
    assert found[0] == "gelu_linear_backward"


def test_a_wrong_view_is_named(walked, config):
    executor, size, _, state = walked
    steps = executor.program.passes["forward"]
    k = next(k for k, step in enumerate(steps) if step.op == "residual_layernorm_forward")
    steps[k] = replace(steps[k], args={**steps[k].args, "inp2": steps[k].args["inp1"]})
    assert wrong(compare_program.program(executor, config, size, state))[0] == steps[k].op


def test_what_is_lost_before_it_is_read_is_named(walked):
    program = walked[0].program
    assert not list(compare_program.overwritten(program))
    backward = program.passes["backward"]
    zero = next(step for step in backward if step.op == "zero")
    cleared = replace(zero, args={"out": backward[-1].args["dwte"]})
    backward.insert(len(backward) - 1, cleared)
    (found,) = compare_program.overwritten(program)
    assert found.operation == "zero" and "wte.dweight" in str(found)


@pytest.mark.parametrize("how", [{}, {"fuse": "all"}, {"recompute": ["layer"]},
                                 {"fuse": "all", "head_chunks": 4, "recompute": ["gelu"]},
                                 *({"fuse": name} for name in rewrites.FUSIONS)], ids=str)
def test_no_rewrite_loses_anything(how):
    assert not list(compare_program.overwritten(gpt2.gpt2("test", 2, 16, **how)))


def test_two_buffers_in_one_place_are_named(walked):
    executor = walked[0]
    executor.plan.offsets["h.0.res_mid"] = executor.plan.offsets["h.1.res_mid"]
    found = [part for part in compare_program.plan(executor) if not part.accepted]
    assert found and "h.0.res_mid" in str(found[0]) and found[0].operation == "plan"


def late_t(plain):
    def update(self, rate):
        self.updates += 1
        plain(self, rate)
    return update


def half(plain):
    return lambda self, rate: plain(self, rate / 2)


def last_alone(plain):
    def gradients(self):
        found = plain(self)
        self.executor.write("gradients", 2 * self.executor.read("gradients"))
        return found
    return gradients


@pytest.mark.parametrize("method, bug, named", [
    ("update", late_t, "t"), ("update", half, "schedule"), ("gradients", last_alone, "gradients"),
    ("validate", lambda plain: lambda self: plain(self) * 1.001, "val_loss")])
def test_a_wrong_part_of_the_trainer_is_named(walked, config, monkeypatch, method, bug, named):
    executor, _, first, _ = walked
    monkeypatch.setattr(train.Trainer, method, bug(getattr(train.Trainer, method)))
    assert wrong(compare_trainer.judged(executor, config, first))[0] == named


def test_what_a_resume_loses_is_named(walked, config, monkeypatch):
    executor, _, first, _ = walked
    plain = train.Trainer.state
    monkeypatch.setattr(train.Trainer, "state", lambda self: {
        **plain(self), "loader": {**self.loader.state(), "taken": 3}})
    assert wrong(compare_trainer.judged(executor, config, first)) == ["loader"]


def test_a_log_that_says_something_else_is_named(walked, config, monkeypatch):
    executor, _, first, _ = walked
    plain = train.Log.write
    monkeypatch.setattr(train.Log, "write", lambda self, record: plain(self, {
        key: round(value, 5) if isinstance(value, float) else value
        for key, value in record.items()}))
    assert wrong(compare_trainer.judged(executor, config, first)) == ["log"]


def test_schedules_are_those_of_stock(config):
    lengths = (30, 7, 0.2), (12, 0, 0.0), (1, 0, 0.1), (4, 9, 0.5), (6, 5, 0.0)
    for name in ("cosine", "linear", "constant", "wsd"):
        for steps, warmup, floor in lengths:
            parts = compare_trainer.scheduled(replace(
                config, schedule=name, steps=steps, warmup=warmup, final_fraction=floor))
            assert not wrong(parts), (name, steps, warmup)
