"""Writes golden/: named tensors and loss curves of stock PyTorch in float64, with their provenance.

    python -m checks.golden            writes golden/gpt2_test.safetensors and golden/loss_*.txt
    python -m checks.golden --out DIR  writes them elsewhere

`gpt2_test.safetensors` is three steps of a test-size GPT-2: `weights/` it starts from, `tokens` and
`targets` of each step, `forward/` and `backward/` of the first step (every activation and every
gradient, gradients before clipping), `after/` the parameters and AdamW's moments after the last,
`losses` and `norms` of each. Names are those of the program's buffers. Written by this command,
never by tests; tests make it anew and compare.
"""

import argparse
import copy
import hashlib
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from checks import stock_runs
from ported.contract import ROOT
from ported.training import weights
from ported.training.config import Config
from ported.training.schedules import SCHEDULES
from reference.builder import gradient
from reference.programs import gpt2

FOLDER = ROOT / "golden"
COMMAND = "python -m checks.golden"
SEED, RATE, STEPS, B, T = 20240520, 1e-3, 3, 2, 16
CURVES = {"test": Config(model="test", sequence_length=T, batch=4, steps=100, learning_rate=1e-2),
          "tiny": Config(model="tiny", sequence_length=64, batch=2, steps=20, warmup=5)}
TOLD = ("model", "sequence_length", "batch", "steps", "learning_rate", "schedule", "warmup",
        "final_fraction", "beta1", "beta2", "epsilon", "weight_decay", "clip", "seed")


def first(size: gpt2.Config) -> dict[str, np.ndarray]:
    """Float32 weights in which nothing is trivial: biases and LayerNorm weights are random too."""
    draw = np.random.default_rng(SEED)
    found = {}
    for name, shape in gpt2.parameters(size).items():
        found[name] = weights.initial(name, shape, SEED, size.L, size.V)
        if len(shape) == 1:
            found[name] = found[name] + np.float32(0.1) * draw.standard_normal(shape, np.float32)
    return found


def batches(size: gpt2.Config, B: int, T: int, count: int) -> Iterator[stock_runs.Batch]:
    """Walks over the words in strides of 1 to 3, so that there is something to learn."""
    draw = np.random.default_rng(SEED)
    for _ in range(count):
        strides = draw.integers(1, 4, (B, T + 1))
        strides[:, 0] = draw.integers(0, size.V, B)
        words = (np.cumsum(strides, 1) % size.V).astype(np.int32)
        yield words[:, :-1].copy(), words[:, 1:].copy()


class Watched:
    """Every activation of a stock GPT-2 by its buffer's name, gradients kept."""

    def __init__(self, model: torch.nn.Module):
        self.found: dict[str, torch.Tensor] = {}
        L = len(model.h)
        before = {"h.0.ln_1": "embedding.out"}
        for layer in range(L):
            h = f"h.{layer}"
            before |= {f"{h}.ln_2": f"{h}.res_mid", f"{h}.attn.c_proj": f"{h}.attn.out"}
        for name, module in model.named_modules():
            words = name.split(".")
            if name in before:
                module.register_forward_pre_hook(
                    lambda _, args, name=before[name]: self.keep(name, args[0]))
            if len(words) == 2 and words[0] == "h":
                module.register_forward_hook(
                    lambda _, args, out, name=name: self.keep(f"{name}.res_out", out))
            elif words[-1] not in ("", "wte", "wpe", "h", "attn", "mlp"):
                module.register_forward_hook(
                    lambda _, args, out, name=name: self.keep(f"{name}.out", out))

    def keep(self, name: str, tensor: torch.Tensor) -> None:
        tensor.retain_grad()
        self.found[name] = tensor


def tensors() -> dict[str, np.ndarray]:
    """What gpt2_test.safetensors holds."""
    size, given = gpt2.config("test"), {}
    start, walks = first(size), list(batches(size, B, T, STEPS))
    run = stock_runs.StockRun(stock_runs.TRUTH, Config(model="test"), size, start)
    given |= {f"weights/{name}": value for name, value in start.items()}
    given |= {"tokens": np.stack([tokens for tokens, _ in walks]),
              "targets": np.stack([targets for _, targets in walks])}
    given |= first_step(run.model, walks[0])
    told = [run.step(batch, RATE) for batch in walks]
    given |= {"losses": np.array([loss for loss, _ in told]),
              "norms": np.array([norm for _, norm in told])}
    given |= {f"after/{name}": value for name, value in run.tensors().items()}
    return {name: np.ascontiguousarray(value) for name, value in given.items()}


def first_step(model: torch.nn.Module, batch: stock_runs.Batch) -> dict[str, np.ndarray]:
    """Activations (`forward/NAME`) and gradients (`backward/dNAME`) of one batch, by stock."""
    torch.set_num_threads(1)
    model = copy.deepcopy(model)
    watched = Watched(model)
    tokens, targets = (torch.from_numpy(part.astype(np.int64)) for part in batch)
    logits, loss = model(tokens, targets)
    watched.keep("logits", logits)
    loss.backward()
    words = logits.detach()[..., : model.config.V].flatten(0, 1)
    losses = torch.nn.functional.cross_entropy(words, targets.flatten(), reduction="none")
    found = {f"forward/{name}": tensor.detach() for name, tensor in watched.found.items()}
    found |= {"forward/losses": losses}
    found |= {f"backward/{gradient(name)}": x.grad for name, x in watched.found.items()}
    found |= {f"backward/{gradient(name)}": p.grad for name, p in model.named_parameters()}
    return {name: tensor.numpy() for name, tensor in found.items()}


def curve(name: str, steps: int | None = None,
          variation: stock_runs.Variation = stock_runs.TRUTH) -> list[tuple[float, float]]:
    """(loss, gradient norm) of each step of one of CURVES, or of its first `steps`."""
    config = CURVES[name]
    size = gpt2.config(config.model)
    walks = batches(size, config.batch, config.sequence_length, steps or config.steps)
    run = stock_runs.StockRun(variation, config, size, first(size))
    return [run.step(batch, rate(config, number)) for number, batch in enumerate(walks)]


def rate(config: Config, number: int) -> float:
    schedule = SCHEDULES[config.schedule]
    return config.learning_rate * schedule(number, config.steps, config.warmup,
                                           config.final_fraction)


def digest(named: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    whole = hashlib.sha256()
    for name, value in sorted(named.items()):
        whole.update(f"{name} {value.dtype.str} {value.shape}\n".encode() + value.tobytes())
    return whole.hexdigest()


def provenance(**more: object) -> dict:
    return {"command": COMMAND, "source": "reference/stock/gpt2.py in float64", "seed": SEED,
            "torch": torch.__version__, "numpy": np.__version__,
            "python": platform.python_version(), "machine": platform.machine(), **more}


def load(folder: Path = FOLDER) -> tuple[dict[str, np.ndarray], dict]:
    """(tensors by name, provenance) of gpt2_test.safetensors."""
    from safetensors import safe_open

    with safe_open(folder / "gpt2_test.safetensors", framework="numpy") as file:
        return ({name: file.get_tensor(name) for name in file.keys()},
                json.loads(file.metadata()["provenance"]))


def load_curve(name: str, folder: Path = FOLDER) -> list[tuple[float, float]]:
    """(loss, norm) of each step as golden/loss_NAME.txt holds them."""
    lines = (folder / f"loss_{name}.txt").read_text().splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    return [(float(loss), float(norm)) for _, loss, norm in rows]


def write(folder: Path) -> list[Path]:
    """Makes everything anew; the files written."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    named = tensors()
    paths = [folder / "gpt2_test.safetensors"]
    more = provenance(digest=digest(named), B=B, T=T, steps=STEPS, learning_rate=RATE)
    save_file(named, paths[0], metadata={"provenance": json.dumps(more, sort_keys=True)})
    paths[0].chmod(0o644)
    for name, config in CURVES.items():
        told = {flag: getattr(config, flag) for flag in TOLD}
        head = json.dumps(provenance(config=told), sort_keys=True)
        lines = [f"# {head}", "# step, loss (nats a token), gradient norm before clipping"]
        lines += [f"{k} {loss!r} {norm!r}" for k, (loss, norm) in enumerate(curve(name), 1)]
        paths.append(folder / f"loss_{name}.txt")
        paths[-1].write_text("\n".join(lines) + "\n")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Writes the golden files anew.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder (default: golden)")
    for path in write(parser.parse_args().out):
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
