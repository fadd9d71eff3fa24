"""The executor against the interpreter, its arena poisoned, its micro-batches regrouped, its errors
read; and a .cu file of two launches through reading, planning and compiling."""

import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from checks import runs
from ported import binding, contract, device, expressions, memory, source
from ported.device.cpu import Cpu
from ported.evidence import Choice
from ported.executor import Executor, ExecutorError, contracts_of, wanted
from reference.program import View
from reference.programs.gpt2 import gpt2

FIXTURES = Path(__file__).parent / "fixtures"
LEARNED = ("parameters", "m", "v", "gradients")
REWRITES = {
    "plain": {}, "fused": {"fuse": "all"}, "other fusions": {
        "fuse": ("residual_layernorm_backward", "gelu_linear_forward", "linear_gelu_backward")},
    "chunks": {"fuse": "all", "head_chunks": 4}, "gelu again": {"recompute": ("gelu",)},
    "all again": {"fuse": "all", "recompute": ("layer",), "head_chunks": 2},
}


@pytest.fixture(scope="module")
def cpu():
    return device.open("cpu", threads=2)


def trained(runner, program, steps=3, micro=1):
    """What two updates leave: every learned region, and the losses."""
    runs.load(runner, runs.weights("test"))
    batches = runs.batches(program, steps * micro)
    losses = [runs.train_step(runner, batches[k * micro : (k + 1) * micro], k + 1, 1e-3)
              for k in range(steps)]
    return {"losses": np.array(losses), **{name: runner.read(name) for name in LEARNED}}


def strays(found, truth):
    return {name: np.linalg.norm(found[name] - truth[name]) / np.linalg.norm(truth[name])
            for name in truth}


@pytest.mark.parametrize("rule", runs.RULES)
@pytest.mark.parametrize("rewrites", REWRITES.values(), ids=REWRITES)
def test_trains_as_the_interpreter_does(cpu, rewrites, rule):
    """Within 4 times what the interpreter itself strays in float32, with a floor of one ulp."""
    program = gpt2("test", B=2, T=16, **rewrites)
    truth = trained(runs.Interpreted(program), program)
    import torch

    allowed = strays(trained(runs.Interpreted(program, torch.float32), program), truth)
    runner = Executor(program, cpu, runs.kernels(program, cpu, rule))
    found = strays(trained(runner, program), truth)
    wrong = {name: (found[name], allowed[name]) for name in found
             if not found[name] <= 4 * allowed[name] + 2**-23}
    assert not wrong, f"(found, float32 interpreter): {wrong}"


@pytest.mark.parametrize("rewrites", REWRITES.values(), ids=REWRITES)
def test_a_poisoned_arena_changes_no_bit(cpu, rewrites):
    program = gpt2("test", B=2, T=16, **rewrites)
    kernels = runs.kernels(program, cpu)
    clean = trained(Executor(program, cpu, kernels), program)
    poisoned = trained(Executor(program, cpu, kernels, poison=True), program)
    for name in clean:
        assert np.array_equal(clean[name], poisoned[name]), name


def test_evaluation_between_steps_changes_no_bit(cpu):
    program = gpt2("test", B=2, T=16, fuse="all")
    runner = Executor(program, cpu, runs.kernels(program, cpu))
    alone = trained(runner, program)
    runs.load(runner, runs.weights("test"))
    for k, batch in enumerate(runs.batches(program, 3)):
        runs.train_step(runner, [batch], k + 1, 1e-3)
        runner.run("evaluate")
        runner.run("sample")
    assert all(np.array_equal(alone[name], runner.read(name)) for name in LEARNED)


def test_micro_batches_agree(cpu):
    """8 x 1 and 1 x 8 are as near to float64 as the interpreter is in float32, within 4 times."""
    import torch

    small, large = gpt2("test", B=1, T=16, fuse="all"), gpt2("test", B=8, T=16, fuse="all")
    eight = runs.batches(small, 8)
    one = [(np.concatenate([tokens for tokens, _ in eight]),
            np.concatenate([targets for _, targets in eight]))]

    def left(runner, micro):
        runs.load(runner, runs.weights("test"))
        loss = runs.train_step(runner, micro, 1, 1e-3)
        return {"losses": np.array(loss), **{name: runner.read(name) for name in LEARNED}}

    truth = left(runs.Interpreted(large), one)
    allowed = strays(left(runs.Interpreted(large, torch.float32), one), truth)
    for program, micro in ((small, eight), (large, one)):
        found = strays(left(Executor(program, cpu, runs.kernels(program, cpu)), micro), truth)
        wrong = {name: (found[name], allowed[name]) for name in found
                 if not found[name] <= 4 * allowed[name] + 2**-23}
        assert not wrong, f"{len(micro)} micro-batches (found, float32 interpreter): {wrong}"


def test_sample_writes_the_rows_of_one_sequence(cpu):
    program = gpt2("test", B=3, T=8)
    runner, truth = Executor(program, cpu, runs.kernels(program, cpu)), runs.Interpreted(program)
    for each in (runner, truth):
        runs.load(each, runs.weights("test"))
        each.write("tokens", runs.batches(program, 1)[0][0])
        each.run("sample")
    np.testing.assert_allclose(runner.buffer("logits")[:8], truth.read("logits")[:8], atol=1e-5)


def test_buffer_is_the_memory_itself(cpu):
    program = gpt2("test", B=1, T=4)
    runner = Executor(program, cpu, runs.kernels(program, cpu))
    runner.buffer("h.0.ln_1.weight")[:] = 3
    assert (runner.read("h.0.ln_1.weight") == 3).all()
    member = program.buffers["h.0.ln_1.weight"]
    flat = runner.read("parameters").reshape(-1)
    assert (flat[member.offset : member.offset + member.size] == 3).all() and flat.sum() == 96
    view = runner.buffer("parameters")
    runner.close()
    assert view.sum() == 96, "an array outlives the executor"
    assert runner.program.tables["decay"] and not cpu._regions.get(runner._base)


def test_steps_profile_and_hooks(cpu):
    program = gpt2("test", B=1, T=8, fuse="all")
    runner = Executor(program, cpu, runs.kernels(program, cpu))
    runs.load(runner, runs.weights("test"))
    seen = []
    runner.run_steps("forward", after=lambda k, bound: seen.append((k, bound.step.name)),
                     before=lambda k, bound: seen.append((k, bound.version)))
    assert len(seen) == 2 * len(program.passes["forward"])
    assert seen[0][1].startswith("embedding_forward_") and seen[1] == (0, "embedding")
    profile = runner.profile("zero")
    assert [(name, version) for name, version, _ in profile] == [("gradients", "fill")]
    assert all(seconds > 0 for *_, seconds in profile)
    assert [str(b.step) for b in runner.steps("update")] == [
        "global_norm_update global_norm", "adamw_update adamw"]


def test_errors_name_step_kernel_and_buffers(cpu, tmp_path):
    program = gpt2("test", B=1, T=4)
    kernels = runs.kernels(program, cpu, "first")
    without = {key: choice for key, choice in kernels.items() if not key.startswith("gelu_back")}
    said = (r"pass backward, step \d+ \(gelu_backward h.1.mlp.gelu; dout=h.1.mlp.gelu.dout.*"
            "no kernel for gelu_backward C=")
    with pytest.raises(ExecutorError, match=said):
        Executor(program, cpu, without)
    narrow = replace(source.read_all()["gelu_forward_01"], needs=("C % 100 == 0",))
    with pytest.raises(ExecutorError, match=r"gelu_forward_01.*needs C % 100 == 0; found N="):
        Executor(program, cpu, {**without, **{key: Choice(narrow) for key in kernels
                                              if key.startswith("gelu_forward")},
                                "gelu_backward": Choice(source.read_all()["gelu_backward_01"])})
    runner = Executor(program, cpu, kernels)
    with pytest.raises(ExecutorError, match=r"tokens: found shape \(5,\), expected \(1, 4\)"):
        runner.write("tokens", np.zeros(5))
    with pytest.raises(ExecutorError, match="no buffer 'h.9.out'"):
        runner.read("h.9.out")
    with pytest.raises(ExecutorError, match="no pass 'fordward', expected zero, forward"):
        runner.run("fordward")


class Idle(Cpu):
    """A device whose kernels do nothing: what remains is the executor's own cost."""

    def load(self, version, contract, axes, parameters):
        class Kernel:
            scratch = {}

            def bind(self, addresses, consts):
                return lambda: None

        return Kernel()


def test_start_does_not_touch_memory_and_steps_cost_little():
    """124M parameters: seconds and pages of start-up do not grow with the model."""
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    program, idle = gpt2("gpt2", B=4, T=64, fuse="all"), Idle(1)
    kernels = dict.fromkeys(wanted(program, contracts_of(program)),
                            Choice(source.read_all()["gelu_forward_01"]))
    before, start = resident(), time.perf_counter()
    runner = Executor(program, idle, kernels)
    seconds = time.perf_counter() - start
    assert runner.plan.nbytes > 2e9
    assert resident() - before < 50e6, "start-up touches memory that nothing has used yet"
    assert seconds < 2
    runner.run("forward")
    start = time.perf_counter()
    for _ in range(20):
        runner.run("forward")
        runner.run("backward")
    steps = 20 * sum(len(program.passes[name]) for name in ("forward", "backward"))
    assert (time.perf_counter() - start) / steps < 5e-6


def two_launches() -> source.Version:
    return source.read(FIXTURES / "global_norm" / "update_01_two_launches.cu", "global_norm")


def test_two_launches_with_scratch_are_read_and_planned():
    version, of = two_launches(), contract.of("global_norm_update")
    binding.check(version, of)
    assert [launch.function for launch in version.launches] == ["norm_parts", "global_norm_update"]
    assert [choice["block"] for choice in version.configurations()] == [128, 256]
    program = gpt2("test", B=1, T=4)
    axes = wanted(program, {**contracts_of(program)})
    (_, axes, _), = [entry for entry in axes.values() if entry[0] == "global_norm_update"]
    integers = {**axes, "block": 128}
    (part,) = version.scratch
    elements = expressions.evaluate(part.axes[0], integers)
    assert elements == 2 * expressions.evaluate(version.launches[0].grid, integers) > 2
    plan = memory.plan(program, scratch={("update", 0): {part.name: 4 * elements}})
    offset = plan.scratch["update", 0]["part"]
    assert plan.permanent <= offset <= plan.nbytes - 4 * elements and offset % 256 == 0
    losses = plan.offsets["losses"], plan.offsets["losses"] + plan.nbytes_of["losses"]
    assert offset >= losses[1] or offset + 4 * elements <= losses[0]
    addresses = {view: 0 for view in ("dweight", "norm", "scale", "part")}
    packed = [binding.arguments(version, launch.function, addresses, of.consts, integers)
              for launch in version.launches]
    assert [len(arguments) for arguments in packed] == [4, 8]
    assert View("gradients") in program.passes["update"][0].reads()


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc: the .cu fixture not compiled")
def test_two_launches_compile_to_a_cubin(tmp_path):
    command = ["nvcc", "-cubin", "-arch=sm_90", "-o", str(tmp_path / "norm.cubin"),
               str(two_launches().path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cubin = (tmp_path / "norm.cubin").read_bytes()
    assert cubin.startswith(b"\x7fELF")
    assert re.search(rb"norm_parts", cubin) and re.search(rb"global_norm_update", cubin)
