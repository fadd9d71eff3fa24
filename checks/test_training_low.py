"""Training in bfloat16 on the emulated device: masters, the same bits again and after a kill, other
places to begin; and what is said of a step that fails."""

import json
import signal

import numpy as np
import pytest

from checks import runs
from checks.training_run import content, learnable, run, start
from ported import device
from ported.executor import Executor, ExecutorError, contracts_of, wanted
from ported.precision import PRECISIONS, rounded
from ported.training import checkpoint, log, tensor_files, trace
from ported.training import start as starting
from ported.training.config import parse
from reference.programs.gpt2 import gpt2

SHORT = ["--device", "emulated", "--dtype", "bfloat16", "--batch", "2", "--sequence-length", "8",
         "--steps", "6", "--checkpoint-every", "2", "--eval-every", "3", "--eval-sequences", "2",
         "--sample-tokens", "0", "--learning-rate", "3e-3", "--keep", "0"]


def runs_in(folder):
    return sorted((folder / "runs").glob("2*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    flags = [*learnable(folder), *SHORT]
    said = run(*flags)
    return flags, runs_in(folder)[0], said


def test_it_learns_in_bfloat16(whole):
    _, made, said = whole
    losses = [r["loss"] for r in log.read(made / "log.jsonl") if "loss" in r]
    assert len(losses) == 6 and losses[-1] < losses[0]
    assert "bfloat16 on " in said


def test_checkpoints_hold_the_masters(whole):
    """Float32 under Hugging Face's names, finer than what bfloat16 can hold."""
    _, made, _ = whole
    last = checkpoint.complete(made)[-1]
    weight = tensor_files.Reader(last, "model").get("h.0.attn.c_attn.weight")
    assert weight.dtype == np.float32 and (rounded(weight, "bfloat16") != weight).mean() > 0.9


def test_a_kill_changes_nothing(whole, tmp_path):
    flags, made, _ = whole
    flags = [*flags, "--out", str(tmp_path / "runs")]
    process = start(*flags)
    for line in process.stdout:
        if line.startswith("step 3/6") or "step 3: validation" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (begun,) = runs_in(tmp_path)
    run("--resume", begun)
    assert content(begun) == content(made)


@pytest.mark.parametrize("more", [["--no-master"], ["--dtype", "float32"], ["--dtype", "tf32"]])
def test_other_precisions_begin_from_a_checkpoint(whole, tmp_path, more):
    flags, made, _ = whole
    first = checkpoint.complete(made)[0]
    out = ["--out", str(tmp_path / "runs"), "--steps", "1"]
    run(*flags, *out, "--init-from", first, *more)
    (begun,) = runs_in(tmp_path)
    assert log.read(begun / "log.jsonl")[0]["config"]["master"] == ("--no-master" not in more)
    again = tensor_files.Reader(checkpoint.complete(begun)[-1], "model")
    weight = again.get("ln_f.weight")
    if "--no-master" in more:
        assert np.array_equal(rounded(weight, "bfloat16"), weight)


def test_the_parameters_are_the_masters_rounded():
    config, _ = parse(["--model", "test", "--device", "emulated", "--dtype", "bfloat16",
                       "--sequence-length", "8", "--batch", "1"])
    begun = starting.begin(config, {})
    program, machine = starting.program_of(config, begun.size), starting.open_device(begun)
    assert machine.precision is PRECISIONS["bfloat16"] and "master" in program.buffers
    runner = Executor(program, machine, runs.kernels(program, machine, "first"))
    starting.fill(begun, *starting.tensors(runner), starting.drawn(begun))
    for name in program.members("parameters"):
        master = runner.read(f"{name}.master")
        assert np.array_equal(runner.read(name), rounded(master, "bfloat16")), name
    assert runner.read("parameters").any()


def test_rows_are_read_alone():
    program, cpu = gpt2("test", B=1, T=4), device.open("cpu", threads=1)
    runner = Executor(program, cpu, runs.kernels(program, cpu, "first"))
    values = np.arange(32 * 32).reshape(32, 32)
    runner.write("wpe.weight", values)
    assert np.array_equal(runner.read_rows("wpe.weight", 3, 5), values[3:5])
    with pytest.raises(ExecutorError, match="expected rows within 0:32"):
        runner.read_rows("wpe.weight", 30, 33)


class Asynchronous:
    """A device that finds its faults only when it is waited for."""

    def __init__(self):
        self.inner, self.lost = device.open("cpu", threads=1), False

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def synchronize(self):
        if self.lost:
            raise device.DeviceError("illegal access")

    def read(self, *arguments):
        self.synchronize()
        return self.inner.read(*arguments)

    def load(self, version, contract, axes, parameters):
        kernel = self.inner.load(version, contract, axes, parameters)
        if contract.name == "gelu_backward":
            kernel.bind = lambda addresses, consts: lambda: setattr(self, "lost", True)
        return kernel


def test_a_fault_found_late_names_its_passes_and_plain_the_step():
    program, machine = gpt2("test", B=1, T=4), Asynchronous()
    kernels = runs.kernels(program, machine, "first")
    runner = Executor(program, machine, kernels)
    for name in ("zero", "forward", "backward"):
        runner.run(name)
    said = r"read losses: illegal access\nit happened in one of the passes zero \(1 steps\), for"
    with pytest.raises(ExecutorError, match=said):
        runner.read("losses")
    machine.lost = False
    plain = Executor(program, machine, kernels, plain=True)
    plain.run("forward")
    with pytest.raises(ExecutorError, match=r"pass backward, step \d+ \(gelu_backward h.1.mlp.gelu;"
                                            r" dout=h.1.mlp.gelu.dout.*kernel gelu_backward_01"):
        plain.run("backward")


def test_a_step_is_done_again_to_name_what_fails(tmp_path):
    flags = [*learnable(tmp_path), "--batch", "2"]
    config, _ = parse(flags)
    begun = starting.begin(config, {})
    program, cpu = starting.program_of(config, begun.size), starting.open_device(begun)
    needs = wanted(program, contracts_of(program))
    kernels = runs.kernels(program, cpu, "first")
    lock = {"identity": {}, "kernels": {
        key: {"version": kernels[key].version.name, "parameters": {}} for key in needs}}
    sizes = {name: program.sizes[name] for name in ("L", "H", "C", "V", "Tmax")}
    recorded = {"sizes": sizes, "lock": lock}
    said = trace.traced(config, recorded, None, 3, lambda text: None)
    assert said == "no step of the program failed when they were done one by one"
    broken = json.loads(json.dumps(lock).replace("layernorm_backward_01", "layernorm_backward_99"))
    said = trace.traced(config, {"sizes": sizes, "lock": broken}, None, 3, lambda text: None)
    assert said.startswith("the step could not be done again")


REWRITES = {"fused": {"fuse": "all", "head_chunks": 2, "master": True}, "plain": {},
            "again": {"fuse": "all", "recompute": ("layer",), "master": True}}


@pytest.mark.parametrize("rewrites", REWRITES.values(), ids=REWRITES)
def test_bfloat16_trains_as_the_interpreter_that_rounds(rewrites):
    """Within what rounding where memory is bfloat16 makes of the interpreter, times eight."""
    program = gpt2("test", B=1, T=8, **rewrites)
    machine = device.open("emulated", precision="bfloat16")
    import torch

    def left(runner):
        runs.load(runner, runs.weights("test"))
        batches = runs.batches(program, 2)
        losses = [runs.train_step(runner, [batch], k + 1, 1e-3) for k, batch in enumerate(batches)]
        return {"losses": np.array(losses), **{n: runner.read(n) for n in learned}}
    learned = ("master" if "master" in program.buffers else "parameters", "m", "v")
    truth = left(runs.Interpreted(program))
    narrow = left(runs.Interpreted(program, torch.float32, machine.precision))
    found = left(Executor(program, machine, runs.kernels(program, machine, "first")))
    for name, value in truth.items():
        allowed = np.linalg.norm(narrow[name] - value)
        assert np.linalg.norm(found[name] - value) <= 8 * allowed, name


@pytest.mark.parametrize("words,said", [
    (["--dtype", "bfloat16"], "all that the cpu's kernels have"),
    (["--dtype", "half"], "one of auto, float32, tf32, bfloat16"),
    (["--device", "gpu"], "did you mean")])
def test_bad_precisions(words, said, capsys):
    import train

    assert train.main(words) == 1
    assert said in capsys.readouterr().err
