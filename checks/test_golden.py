"""The golden files: made anew, and reproduced by the interpreter and by the executor."""

import numpy as np
import pytest
import torch

from checks import golden, runs, stock_runs
from checks.agreement import assert_agree
from ported import device
from ported.executor import Executor
from reference.program import View
from reference.programs import gpt2

SIZE = gpt2.config("test")
FACTOR, ULP = 4, 2.0**-23  # over the interpreter's own float32 errors, as in test_executor


@pytest.fixture(scope="module")
def held():
    return golden.load()[0]


@pytest.fixture(scope="module")
def cpu():
    return device.open("cpu", threads=2)


def program(**rewrites):
    return gpt2.gpt2("test", golden.B, golden.T, **rewrites)


def begun(runner, held):
    runs.load(runner, {name.removeprefix("weights/"): torch.from_numpy(value)
                       for name, value in held.items() if name.startswith("weights/")})
    return list(zip(held["tokens"], held["targets"].reshape(golden.STEPS, -1), strict=True))


def after_steps(runner, held):
    """Losses and norms of every step, then parameters and moments."""
    losses, norms = [], []
    for t, batch in enumerate(begun(runner, held), 1):
        losses.append(runs.train_step(runner, [batch], t, golden.RATE))
        norms.append(runner.read("norm").item())
    found = {"losses": np.array(losses), "norms": np.array(norms)}
    for region, suffix in (("parameters", ""), ("m", ".m"), ("v", ".v")):
        flat = runner.read(region).reshape(-1)
        for name, b in runner.program.members("parameters").items():
            part = flat[b.offset : b.offset + b.size].reshape(b.shape)
            found[f"after/{name}{suffix}"] = part
    return found


def first_step(runner, held):
    """Every buffer that the first forward and backward write, as its last writer left it."""
    (tokens, targets), *_ = begun(runner, held)
    for name, value in (("tokens", tokens), ("targets", targets),
                        ("dscale", 1 / targets.size)):
        runner.write(name, value)
    found = {}
    for name in ("forward", "backward"):
        for k, step in enumerate(runner.program.passes[name]):
            run_step(runner, name, k)
            for view in step.writes():
                key = f"{name}/{view.buffer}"
                if step.op == "classifier_forward" and view.buffer == "logits":
                    key = "backward/dlogits"  # where the gradient takes the place of the scores
                if key in held and view == View(view.buffer):
                    found[key] = runner.read(view.buffer).reshape(held[key].shape)
    return found


def run_step(runner, name, k):
    if isinstance(runner, Executor):
        runner.run_step(name, k)
    else:
        from reference import interpreter

        step = runner.program.passes[name][k]
        results = interpreter.compute(runner.program, step, runner.tensors)
        interpreter.store(step, results, runner.tensors)


def as_tensors(named):
    return {name: torch.from_numpy(np.asarray(value, np.float64)) for name, value in named.items()}


def of(held, *prefixes):
    return {name: value for name, value in held.items() if name.startswith(prefixes)}


def test_made_anew_it_is_the_same(held):
    anew = golden.tensors()
    assert anew.keys() == held.keys()
    whole = {name for name, value in held.items() if value.dtype != np.float64}
    assert all(np.array_equal(anew[name], held[name]) for name in whole)
    floats = held.keys() - whole
    assert_agree(as_tensors({n: anew[n] for n in floats}), as_tensors({n: held[n] for n in floats}),
                 floor=1e-6)


def test_its_digest_and_provenance(held):
    told = golden.load()[1]
    assert told["digest"] == golden.digest(held)
    assert {"command", "seed", "torch", "numpy", "python", "source"} <= told.keys()
    sizes = {path.name: path.stat().st_size for path in golden.FOLDER.glob("*.*")}
    matrix = [sizes.pop(name, 0) for name in ("kill_matrix.json", "kill_matrix.md")]
    assert sum(sizes.values()) < 3e6 and sum(matrix) < 1.5e6


def test_the_interpreter_reproduces_every_tensor(held):
    found = first_step(runs.Interpreted(program()), held)
    truth = of(held, "forward/", "backward/")
    assert_agree(as_tensors(found), as_tensors(truth), floor=1e-6)
    found = after_steps(runs.Interpreted(program()), held)
    assert_agree(as_tensors(found), as_tensors(of(held, "after/", "losses", "norms")), floor=1e-6)


REWRITES = {"plain": {}, "fused": {"fuse": "all"},
            "recomputed": {"fuse": "all", "recompute": ("layer",)}}


@pytest.mark.parametrize("rewrites", REWRITES.values(), ids=REWRITES)
@pytest.mark.parametrize("rule", runs.RULES)
def test_the_executor_reproduces_it_in_float32(held, cpu, rewrites, rule):
    made = program(**rewrites)
    executor = Executor(made, cpu, runs.kernels(made, cpu, rule), poison=True)
    narrow = runs.Interpreted(made, torch.float32)
    wrong = []
    for what in (first_step, after_steps):
        found, strays = what(executor, held), what(narrow, held)
        assert found
        for name, value in found.items():
            norm = np.linalg.norm(held[name]) or 1.0
            error, stray = (np.linalg.norm(other.astype(np.float64) - held[name]) / norm
                            for other in (value, strays[name]))
            assert stray < 1e-4, f"{name}: the interpreter itself strays"
            if not error <= FACTOR * stray + ULP:
                wrong.append(f"{name}: found {error:.3g}, expected at most "
                             f"{FACTOR * stray + ULP:.3g}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name, steps", [("test", None), ("tiny", 2)])
def test_curves_made_anew_are_the_same(name, steps):
    anew, held = golden.curve(name, steps), golden.load_curve(name)
    np.testing.assert_allclose(anew, held[: len(anew)], rtol=1e-12)
    assert len(held) == golden.CURVES[name].steps and len(anew) == (steps or len(held))


def test_the_executor_follows_the_curve(cpu):
    """100 steps of the test size, no farther from float64 than stock float32 by then, fourfold."""
    config, size = golden.CURVES["test"], gpt2.config("test")
    T = config.sequence_length
    made = gpt2.gpt2("test", config.batch, T, fuse="all")
    executor = Executor(made, cpu, runs.kernels(made, cpu))
    runs.load(executor, {n: torch.from_numpy(w) for n, w in golden.first(size).items()})
    found = []
    for k, (tokens, targets) in enumerate(golden.batches(size, config.batch, T, config.steps)):
        loss = runs.train_step(executor, [(tokens, targets.reshape(-1))], k + 1,
                               golden.rate(config, k))
        found.append((loss, executor.read("norm").item()))
    truth, found = np.array(golden.load_curve("test")), np.array(found)
    strays = [np.abs(np.array(golden.curve("test", variation=variation)) - truth)
              for variation in stock_runs.STRAYS]
    allowed = FACTOR * np.maximum.accumulate(np.max(strays, 0), 0) + ULP * np.abs(truth)
    assert (np.abs(found - truth) <= allowed).all()
    assert truth[-10:, 0].mean() < truth[:10, 0].mean() - 1, "the curve learns"
