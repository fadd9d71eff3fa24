"""train.py on cuda as the recording driver sees it: a step is graphs and small writes on one
stream, waited for once; a GPU that is lost ends the run with its reasons, checkpoints whole."""

import pytest

from checks.fake_driver.record import WAITS, after, passed, recorded, run
from checks.training_run import learnable

BEGIN = """
import functools
import train
from checks import training_run
train.start.kernels_for = functools.partial(training_run.unproved, own=True)
flags = {flags!r} + ["--device", "cuda", "--batch", "2", "--steps", "4", "--eval-every", "0",
                     "--eval-sequences", "2", "--sample-tokens", "0", "--checkpoint-every", "2"]
"""


def script(folder, body):
    return BEGIN.format(flags=learnable(folder)) + body


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    """The record of a step's gradients, and of its update."""
    folder = tmp_path_factory.mktemp("step")
    code, out, errors, lines = run(script(folder, """
def marked(name):
    plain = getattr(train.Trainer, name)
    def call(self, *given):
        mark(name)
        found = plain(self, *given)
        mark("after")
        return found
    setattr(train.Trainer, name, call)
marked("gradients")
marked("update")
sys.exit(train.main(flags))
"""), folder)
    assert code == 0, out + errors
    second = [k for k, line in enumerate(lines) if line == "-- gradients"][1]
    return after(lines[second:], "gradients"), after(lines[second:], "update")


@recorded
def test_a_step_is_enqueued_whole_before_it_is_waited_for(step):
    gradients, update = step
    graphs = [k for k, line in enumerate(gradients) if line.startswith("cuGraphLaunch")]
    waits = [k for k, line in enumerate(gradients) if WAITS.search(line)]
    assert len(graphs) == 4, "zero, forward, backward, norm"
    assert min(waits) > max(graphs)
    reads = [line for line in gradients if line.startswith("cuMemcpyDtoH")]
    assert len(reads) == 2, "losses and norm"
    assert sum(line.startswith("cuMemcpyHtoD") for line in gradients) == 2, "tokens and targets"
    assert not any(line.startswith("cuLaunchKernel") for line in gradients), "only in graphs"
    assert not [line for line in update if WAITS.search(line)]
    assert sum(line.startswith("cuGraphLaunch") for line in update) == 1


@recorded
def test_a_lost_gpu_ends_the_run_and_leaves_its_checkpoint(tmp_path):
    code, out, errors, _ = run(script(tmp_path, """
plain = train.Trainer.update
def update(self, rate):
    plain(self, rate)
    if self.updates == 3:
        os.environ["FAKE_DRIVER"] = "cuStreamQuery=700"
train.Trainer.update = update
train.trace.traced = lambda *given: "pass backward, step 3, kernel gelu_backward_01"
sys.exit(train.main(flags))
"""), tmp_path)
    assert code == 1, out + errors
    for part in ("training, step 4", "illegal memory access", "kernel gelu_backward_01",
                 "one of the passes", "--resume", "step_00000002"):
        assert part in errors, (part, errors)
    (made,) = (tmp_path / "runs").glob("2*")
    assert [p.name for p in (made / "checkpoints").iterdir()] == ["step_00000002"]


@recorded
def test_too_little_memory_is_told_with_what_would_help(tmp_path):
    code, _, errors, _ = run(script(tmp_path, """
sys.exit(train.main([*flags, "--batch", "64"]))
"""), tmp_path, "free=900000")
    assert code == 1
    assert "found 878.9 KiB of memory, expected" in errors and "--micro-batch" in errors


@recorded
def test_no_gpu_is_told_plainly(tmp_path):
    code, _, errors, _ = run(script(tmp_path, "sys.exit(train.main(flags))"), tmp_path, "devices=0")
    assert code == 1 and errors.startswith("\nerror: cuda: found no GPU") and "Trace" not in errors


@recorded
def test_a_profile_is_made(tmp_path):
    found, _ = passed(script(tmp_path, """
import contextlib, io, json
import functools
from checks import profiling, training_run
training_run.unproved = functools.partial(training_run.unproved, own=True)
from ported import bench_cuda
from ported.bench import Ceilings
bench_cuda.ceilings = lambda device: Ceilings(4e12, 7e14)
with contextlib.redirect_stdout(io.StringIO()) as said:
    code = profiling.main([*flags, "--unproved"])
print(json.dumps([code, said.getvalue()]))
"""), tmp_path)
    assert found[0] == 0 and "bound by" in found[1] and "tokens/s" in found[1]
    assert (tmp_path / "runs" / "profile" / "profile.png").read_bytes().startswith(b"\x89PNG")
