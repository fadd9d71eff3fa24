"""Fixed scenarios over the trainer, the program and the bench: what two checkouts do differently.

    python -m checks.guard_runs OUT.json scenario:run ...

Each returns facts, `{what: value}`, in an order in which causes come before effects. A mutant has a
witness where a fact differs from the original's. Scenarios judge nothing: the guards do
(checks/guards.py), by tests that know no scenario.
"""

import contextlib
import copy
import hashlib
import io
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

T, WINDOWS = 16, 20
FLAGS = ["--model", "test", "--sequence-length", str(T), "--no-curve", "--threads", "1",
         "--batch", "4", "--micro-batch", "2", "--steps", "10", "--warmup", "3", "--clip", "0.5",
         "--weight-decay", "0.3", "--beta1", "0.8", "--beta2", "0.97", "--seed", "7",
         "--checkpoint-every", "4", "--keep", "2", "--eval-every", "4", "--eval-sequences", "5",
         "--sample-tokens", "0", "--skip-norm", "1.0", "--outlier-window", "2",
         "--head-chunks", "2", "--recompute", "ln", "--learning-rate", "1e-2"]
LOW = ["--device", "emulated", "--dtype", "bfloat16", "--batch", "2", "--micro-batch", "1",
       "--sequence-length", "8", "--steps", "2", "--head-chunks", "1", "--checkpoint-every", "1",
       "--eval-sequences", "2", "--recompute", "none"]
REWRITES = {"plain": {}, "fused": {"fuse": "all"}, "chunks": {"fuse": "all", "head_chunks": 4},
            "again": {"fuse": "all", "recompute": ("layer",), "head_chunks": 2},
            "other": {"fuse": ("residual_layernorm_backward", "gelu_linear_forward",
                               "linear_gelu_backward")}, "norms again": {"recompute": ("ln",)}}
Facts = dict[str, str]


def digest(data) -> str:
    """Of bytes or an array's bytes."""
    data = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def schedules() -> Facts:
    """Every schedule at every step of a few runs."""
    from ported.training.schedules import SCHEDULES

    return {f"{name}, {steps} steps, warm-up {warmup}, floor {final}, step {step}":
            repr(schedule(step, steps, warmup, final))
            for name, schedule in SCHEDULES.items()
            for steps, warmup, final in ((20, 4, 0.1), (11, 0, 0.0), (3, 5, 0.5))
            for step in range(steps)}


def _files(folder: Path) -> list[str]:
    """Flags of a training file of WINDOWS windows, and one to validate on."""
    from checks.training_run import write_tokens

    random = np.random.default_rng(0)
    for name, count in (("train", WINDOWS * T + 3), ("val", 7 * T + 1)):
        write_tokens(folder / f"{name}.bin", np.cumsum(random.integers(1, 4, count)) % 300)
    return ["--data", str(folder / "train.bin"), "--val-data", str(folder / "val.bin"),
            "--out", str(folder / "runs")]


def data() -> Facts:
    """What the loader hands out: epochs, seeds, resuming, reading ahead, validation."""
    from ported.training.loader import Loader, in_order
    from ported.training.tokens import Tokens

    with tempfile.TemporaryDirectory() as name:
        _files(Path(name))
        tokens = Tokens([Path(name) / "train.bin", Path(name) / "val.bin"], T)
        facts = {"windows": str(tokens.windows)}
        for seed in (1, 2):
            loader = Loader(tokens, seed)
            facts |= {f"seed {seed}, batch {k}": " ".join(map(str, loader.next(3)[0][:, 0]))
                      + " " + digest(loader.next(1)[1]) for k in range(20)}
            again = Loader(tokens, seed)
            again.restore(json.loads(json.dumps(loader.state())), "here")
            facts[f"seed {seed}, resumed"] = digest(again.next(2)[0])
        loader.prepare(4)
        facts["saved while it reads ahead"] = str(loader.state()["taken"])
        facts["read ahead, then other batches"] = digest(loader.next(2)[0]) + str(loader.taken)
        facts["overfit"] = digest(np.stack([Loader(tokens, 1, only=2).next(5)[0]]))
        facts |= {f"validation {k}": f"{digest(x)} {digest(y)} {rows}"
                  for k, (x, y, rows) in enumerate(in_order(tokens, 4, 10))}
    return facts


def _trained(flags: list[str]) -> tuple[int, str]:
    """train.py in this process with kernels that need no proof: its exit code, what it said."""
    import train
    from checks import training_run

    train.start.kernels_for = training_run.unproved
    train.runs.commit = lambda: "scenario"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = train.main(flags)
    return code, said.getvalue()


def _content(run: Path, name: str) -> Facts:
    """A run's log line by line, and its checkpoints file by file, tensor by tensor."""
    from safetensors.numpy import load_file

    facts = {}
    for k, line in enumerate((run / "log.jsonl").read_text().splitlines()):
        record = json.loads(line)
        if k == 0:
            record = {"config": record["config"], "sizes": record["sizes"]}
        record.get("config", {}).pop("data", None), record.get("config", {}).pop("val_data", None)
        facts |= {f"{name}, log line {k}, {key}": json.dumps(value)
                  for key, value in record.items()}
    for path in sorted(run.glob("checkpoints/*/*")):
        where = f"{name}, {path.parent.name}/{path.name}"
        if path.suffix == ".safetensors":
            facts |= {f"{where}, {key}": f"{value.shape} {digest(value)}"
                      for key, value in sorted(load_file(path).items())}
        elif path.name == "state.json":
            state = json.loads(path.read_text())
            facts |= {f"{where}, {key}": json.dumps(state.get(key), sort_keys=True)
                      for key in ("step", "updates", "windows")}
            facts[f"{where}, taken"] = str(state.get("loader", {}).get("taken"))
        else:
            facts[where] = path.read_text()
    return facts


def _run(flags: list[str], back: int) -> Facts:
    """A run, and the same run resumed from its checkpoint at step `back`."""
    with tempfile.TemporaryDirectory() as name:
        given = [*flags, *_files(Path(name))]
        code, said = _trained(given)
        facts = {"exit code": str(code)} | ({"error": said[-300:]} if code else {})
        for made in sorted((Path(name) / "runs").glob("2*")):
            facts |= _content(made, "whole")
            if not (made / "checkpoints" / f"step_{back:08d}").is_dir():
                continue
            for later in made.glob("checkpoints/step_*"):
                if int(later.name[5:]) > back:
                    shutil.rmtree(later)
            code, said = _trained(["--resume", str(made)])
            facts |= {"resumed, exit code": str(code)} | ({"refused": said[-300:]} if code else {})
            facts |= _content(made, "resumed")
    return facts


def run() -> Facts:
    """Ten steps with accumulation, clipping, decay and skipped updates, stopped and resumed."""
    return _run(FLAGS, back=8)


def low() -> Facts:
    """Two steps in bfloat16 on the emulated device, stopped and resumed."""
    return _run([*FLAGS, *LOW], back=1)


def sample() -> Facts:
    """Text of a tiny model with GPT-2's vocabulary; its padding rows."""
    from checks import training_run
    from ported.training import checkpoint
    from ported.training.weights import initial
    from reference.programs import gpt2

    sizes = {"L": 1, "H": 1, "C": 4, "V": 50257, "Tmax": 8}
    shapes = gpt2.parameters(gpt2.Config(**sizes))
    weights = {name: initial(name, shape, 0, 1, 50257) for name, shape in shapes.items()}
    facts = {f"first {name}": digest(value) for name, value in weights.items()}
    with tempfile.TemporaryDirectory() as name:
        folder = checkpoint.save(Path(name), 1, {}, training_run.held(weights),
                                 training_run.held({"m": np.zeros(1, np.float32)}), sizes)
        code, _ = _trained([*FLAGS[4:], *_files(Path(name)), "--init-from", str(folder),
                            "--sequence-length", "8", "--sample-tokens", "12", "--top-k", "0",
                            "--steps", "1", "--temperature", "3", "--prompt", "a b c"])
        facts["exit code"] = str(code)
        for made in (Path(name) / "runs").glob("2*"):
            for record in map(json.loads, (made / "log.jsonl").read_text().splitlines()):
                facts |= {"sample": record["sample"]} if "sample" in record else {}
    return facts


def checkpoints() -> Facts:
    """A checkpoint of a tiny model, its files, what comes back; what a kill amid saving leaves."""
    from checks import training_run
    from ported.training import checkpoint, hugging_face

    facts = {}
    with tempfile.TemporaryDirectory() as name:
        for step in (1, 2, 3):
            folder = training_run.save(Path(name), step, keep=2)
        facts["kept"] = str(sorted(path.name for path in folder.parent.iterdir()))
        facts |= {k: v for k, v in _stored(folder).items()}
        parameters, moments = (copy.deepcopy(part) for part in training_run.arrays())
        checkpoint.restore(folder, *map(training_run.held, (parameters, moments)), 30)
        facts |= {f"restored {n}": digest(v) for n, v in {**parameters, **moments}.items()}
        facts["sizes"] = str(hugging_face.sizes(folder))
        plain, hugging_face.config = hugging_face.config, lambda sizes: 1 / 0
        with contextlib.suppress(ZeroDivisionError):
            training_run.save(Path(name), 4)
        hugging_face.config = plain
        facts["after a fault amid saving"] = str(checkpoint.complete(Path(name))[-1].name)
    return facts


def _stored(folder: Path) -> Facts:
    from safetensors.numpy import load_file

    tensors = load_file(folder / "model.safetensors")
    return {**{f"file {n}": f"{v.shape} {digest(v)}" for n, v in sorted(tensors.items())},
            "config.json": (folder / "config.json").read_text()}


def executed() -> Facts:
    """Plans, and what updates on the cpu leave, of several rewrites; two readers of one buffer."""
    from checks import runs
    from ported import device
    from ported.executor import Executor
    from reference import rewrites
    from reference.programs.gpt2 import gpt2

    cpu, facts = device.open("cpu", threads=1), {}
    consts = {"global_norm_update": {"max_norm": 0.3}}
    for name, how in REWRITES.items():
        program = gpt2("test", 2, T, consts=consts, **how)
        executor = Executor(program, cpu, runs.kernels(program, cpu))
        facts |= {f"{name}: {fact}": value for fact, value in _steps(executor, runs).items()}
        facts[f"{name}: planned bytes"] = str(executor.plan.nbytes)
        facts[f"{name}: places"] = digest(repr(sorted(executor.plan.offsets.items())).encode())
    program = gpt2("test", 2, T)
    steps = program.passes["backward"]
    k = next(k for k, step in enumerate(steps) if step.op == "gelu_backward")
    steps.insert(k + 1, steps[k])
    fused = rewrites.fuse(program, "gelu_linear_backward")
    facts["two readers"] = " ".join(step.op for step in fused.passes["backward"])
    return facts


def _steps(runner, runs) -> Facts:
    runs.load(runner, runs.weights("test"))
    facts = {}
    for t, batch in enumerate(runs.batches(runner.program, 2), 1):
        facts[f"loss {t}"] = repr(runs.train_step(runner, [batch, batch], t, 1e-3))
        facts[f"norm {t}"] = repr(runner.read("norm").tolist())
        facts |= {f"{name} after {t}": digest(runner.read(name))
                  for name in ("gradients", "parameters", "m", "v")}
    runner.run("evaluate")
    facts["evaluated"] = digest(runner.read("losses"))
    return facts


def interpreted() -> Facts:
    """The interpreter in float64 on several rewrites, and stock PyTorch beside it."""
    from checks import golden, runs, stock_runs
    from ported.training.config import Config
    from reference.programs import gpt2

    facts = {}
    for name, how in REWRITES.items():
        program = gpt2.gpt2("test", 2, T, **how)
        facts |= {f"{name}: {fact}": value
                  for fact, value in _steps(runs.Interpreted(program), runs).items()}
    size = gpt2.config("test")
    stock = stock_runs.StockRun(stock_runs.TRUTH, Config(model="test"), size, golden.first(size))
    for step, batch in enumerate(golden.batches(size, 2, T, 2)):
        facts[f"stock, step {step}"] = repr(stock.step(batch, 1e-3))
    return facts | {f"stock, {name}": digest(value) for name, value in stock.tensors().items()}


def explicit() -> Facts:
    """Every explicit function and every stock function on a case of its own."""
    import importlib

    from checks import cases
    from ported.contract import read_all

    sizes = {"B": 2, "T": 5, "N": 7, "C": 6, "O": 9, "H": 2, "D": 3, "V": 11, "Vp": 13,
             "Tmax": 8, "S": 3, "E": 4}
    facts = {}
    for name, of in read_all().items():
        order = tuple((axis, sizes[axis]) for axis in cases.axes_of(of))
        inputs = cases.draw(cases.Case(name, order, 3), of).inputs
        facts |= {f"{name}: {key}": digest(value)
                  for key, value in cases.explicit(of, inputs).items()}
        stock = importlib.import_module(f"reference.stock.{of.operation}")
        if of.direction != "backward":
            import torch

            given = {k: torch.from_numpy(v.copy()) if isinstance(v, np.ndarray) else v
                     for k, v in inputs.items()}
            found = getattr(stock, of.direction)(**given)
            facts |= {f"stock {name}: {key}": digest(value.numpy())
                      for key, value in found.items()}
    return facts


def proofs() -> Facts:
    """What evidence makes of proofs that hold, are refused or void, and of a lock."""
    from ported import device, evidence, source
    from ported.contract import of as contract_of
    from ported.training.config import Config
    from ported.training.start import Start

    cpu, of = device.open("cpu", threads=1), contract_of("gelu_forward")
    version = source.read_all()["gelu_forward_02"]
    meaning = evidence.meaning(version, of)
    checks = {name: {"version": number} for name, number in evidence.current_checks().items()}
    good = {"meaning": meaning, "verdict": "proved", "checks": checks}
    records = {"good": good, "refused": good | {"verdict": "refused"},
               "void": good | {"meaning": "x"}, "stale": good | {"checks": {}}}
    facts = {name: evidence.judge(record, meaning) for name, record in records.items()}
    lock = {"identity": {}, "kernels": {"gelu_forward C=1 N=1": {
        "version": version.name, "parameters": {}, "meaning": "of another day"}}}
    plain, evidence.status = evidence.status, lambda *given: "proved"
    try:
        found = evidence.obey(lock, {"gelu_forward": of}, cpu)
        facts["lock of a changed kernel"] = str(list(found))
    except evidence.EvidenceError as error:
        facts["lock of a changed kernel"] = str(error)
    blurred = replace(version, claims=frozenset())
    known, source.read_all = source.read_all, lambda **how: {version.name: blurred}
    try:
        needs = {"gelu_forward C=4 N=4": ("gelu_forward", {"N": 4, "C": 4}, {})}
        facts["not deterministic"] = str(list(evidence.choose(needs, {of.name: of}, cpu)))
    except evidence.EvidenceError as error:
        facts["not deterministic"] = str(error)
    evidence.status, source.read_all = plain, known
    begun = Start(Config(), SimpleNamespace(), state={"lock": lock})
    return facts | {"lock to obey": str(begun.lock is lock)}


SCENARIOS = {function.__name__: function for function in (
    schedules, data, proofs, explicit, checkpoints, interpreted, executed, run, sample, low)}
