"""What the checks of the trainer share: arrays to save, data to train on, and a door into train.py.

`python -m checks.training_run ARGUMENTS` is train.py with kernels chosen as ever but not proved
anew at the run's shapes (the prover has checks of its own); all first versions where an operation
has no proof yet. Only checks/ has this door.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from ported.contract import ROOT
from ported.training import checkpoint, tensor_files
from ported.training.tokens import Writer
from reference.programs import gpt2

SIZES = {"L": 2, "H": 2, "C": 8, "V": 30, "Tmax": 6}
SHAPES = gpt2.parameters(gpt2.Config(**SIZES))


def held(arrays: dict[str, np.ndarray]) -> tensor_files.Tensors:
    """A dictionary of arrays as Tensors."""
    def write(name, array):
        arrays[name][...] = array
    return tensor_files.Tensors({n: a.shape for n, a in arrays.items()}, arrays.get, write)


def arrays(seed: int = 0) -> tuple[dict, dict]:
    """Parameters and moments of a GPT-2 of SIZES."""
    random = np.random.default_rng(seed)
    parameters = {n: random.normal(size=s).astype(np.float32) for n, s in SHAPES.items()}
    parameters["wte.weight"][SIZES["V"]:] = 0
    moments = {f"{n}.{kind}": random.normal(size=s).astype(np.float32)
               for kind in "mv" for n, s in SHAPES.items()}
    return parameters, moments


def save(run: Path, step: int, keep: int = 0, state: dict | None = None) -> Path:
    """A checkpoint of arrays(step)."""
    return checkpoint.save(run, step, state or {"rate": 0.1 + 0.2}, *map(held, arrays(step)),
                           SIZES, keep)


def write_tokens(path: Path, values) -> Path:
    with Writer(path) as writer:
        writer.write(values)
    return path


def learnable(folder: Path) -> list[str]:
    """Flags that train the test size on token files: a stream whose next token is one of three."""
    random = np.random.default_rng(0)
    for name, count in (("train", 20_000), ("val", 2_000)):
        write_tokens(folder / f"{name}.bin", np.cumsum(random.integers(1, 4, count)) % 300)
    return ["--model", "test", "--sequence-length", "16", "--data", str(folder / "train.bin"),
            "--val-data", str(folder / "val.bin"), "--out", str(folder / "runs"), "--no-curve",
            "--threads", "1", "--warmup", "5", "--eval-sequences", "20"]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "checks.training_run", *map(str, arguments)]


def start(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(command(*arguments), cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def run(*arguments: object, code: int = 0) -> str:
    """What a whole run says; its exit code is checked."""
    done = subprocess.run(command(*arguments), cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def content(run: Path) -> dict[str, bytes]:
    """Every byte a run promises: its log and its checkpoints."""
    paths = [run / "log.jsonl", *run.glob("checkpoints/*/*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}


def unproved(program, device, begun, say, own=False):
    """In place of ported.training.start.kernels_for: what evidence chooses; where something has no
    proof, of each operation the versions named by --use, else the fastest by any timing there is,
    else the first. `own`: our own kernels only, for where the vendors' libraries are not."""
    from ported import evidence, source
    from ported.executor import contracts_of, wanted

    contracts = contracts_of(program)
    versions = {name: v for name, v in source.read_all(language=device.language).items()
                if not (own and v.language == "py")}
    if begun.lock:
        chosen = {key: evidence.Choice(versions[entry["version"]], entry["parameters"])
                  for key, entry in begun.lock["kernels"].items()}
        return chosen, begun.lock
    needs, use = wanted(program, contracts), [n for n in begun.config.use.split(",") if n]
    try:
        chosen = {} if own else evidence.choose(needs, contracts, device, use)
    except evidence.EvidenceError:
        chosen = {}
    if not chosen:
        forced = {versions[name].contract_name: versions[name] for name in use}
        chosen = {key: _unproved(forced, versions, contracts[name], axes, device)
                  for key, (name, axes, *_) in needs.items()}
    return chosen, evidence.lock(chosen, contracts, device)


def _unproved(forced, versions, of, axes, device):
    """One operation's choice, without asking for a proof."""
    from ported import evidence

    if of.name in forced:
        return evidence.Choice(forced[of.name], forced[of.name].configurations()[0])
    fit = [v for v in versions.values()
           if v.contract_name == of.name and v.supports(device.precision, of.roles)
           and not v.unmet_needs({**axes, **device.values, **v.configurations()[0]})]
    if not fit:
        raise evidence.EvidenceError(f"{of.name}: no version for {device.precision.name} at "
                                     f"{dict(axes)}")
    timed = [v for v in fit if (evidence.load(v, device.evidence, evidence.meaning(v, of))
                                or {}).get("timings")]
    if timed:
        return evidence.fastest(timed, of, axes, device)
    return evidence.Choice(fit[0], fit[0].configurations()[0])


if __name__ == "__main__":
    import train

    train.start.kernels_for = unproved
    train.runs.commit = lambda: "checks"  # somebody may commit between two runs that are compared
    code = train.main(sys.argv[1:])
    assert "torch" not in sys.modules, "train.py imported torch"
    sys.exit(code)
