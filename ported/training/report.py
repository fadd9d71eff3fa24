"""What the terminal shows of a run. It may round; the log does not."""

import os
import sys
import time
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

EVERY = 1.0  # seconds between lines where output is no terminal
# Dense operations a second by the makers' data sheets, by a part of the device's name and the
# precision of products: what published utilisations are shares of.
PEAKS = {
    "H200": {"bfloat16": 989e12, "tf32": 494e12, "float32": 67e12},
    "H100": {"bfloat16": 989e12, "tf32": 494e12, "float32": 67e12},
    "A100": {"bfloat16": 312e12, "tf32": 156e12, "float32": 19.5e12},
    "RTX 4090": {"bfloat16": 165e12, "tf32": 82.6e12, "float32": 82.6e12},
}


def peak(processor: str, precision: str) -> float | None:
    """The data sheet's operations a second, None for a device that is not listed."""
    return next((by[precision] for name, by in PEAKS.items() if name in processor), None)


def operations(parameters: int, sizes: Mapping[str, int]) -> int:
    """Of one token's training, forward and backward: 6 a parameter, 12 L C T for attention
    (Chowdhery et al., "PaLM", 2022, appendix B; no credit for what is causally left out)."""
    return 6 * parameters + 12 * sizes["L"] * sizes["C"] * sizes["T"]


class Progress:
    """A line a step: rewritten in place on a terminal, about one a second in a file."""

    def __init__(self, steps: int, tokens: int, full: float | None = None):
        """`tokens`: of one step; `full`: tokens a second at the device's peak, where known."""
        self.steps, self.tokens, self.pace, self.shown = steps, tokens, 0.0, -EVERY
        self.full = full
        self.open = False

    def step(self, step: int, loss: float, norm: float, rate: float, seconds: float,
             skipped: bool = False) -> None:
        self.pace = 0.9 * self.pace + 0.1 * seconds if self.pace else seconds
        text = (f"step {step:>{len(str(self.steps))}}/{self.steps}  loss {loss:7.4f}  "
                f"norm {norm:6.3f}  lr {rate:.1e}  {seconds * 1e3:5.0f} ms  "
                f"{self.tokens / self.pace:5.0f} tokens/s"
                + (f"  MFU {self.tokens / self.pace / self.full:.1%}" if self.full else "")
                + ("  skipped" if skipped else ""))
        if sys.stdout.isatty():
            print(f"\r{text}\x1b[K", end="", flush=True)
            self.open = True
        elif time.monotonic() - self.shown >= EVERY or step in (1, self.steps):
            self.shown = time.monotonic()
            print(text, flush=True)

    def say(self, text: str) -> None:
        """A line that stays."""
        print("\n" + text if self.open else text, flush=True)
        self.open = False


def parameters_of(shapes: Mapping[str, tuple[int, ...]], V: int) -> int:
    """How many numbers are trained, padding not counted."""
    return sum(prod((V, *shape[1:]) if name == "wte.weight" else shape)
               for name, shape in shapes.items())


def parameter_count(shapes: Mapping[str, tuple[int, ...]], V: int) -> str:
    """`7.2M`: the same for a reader."""
    count = parameters_of(shapes, V)
    return f"{count / 1e6:.1f}M" if count >= 1e5 else str(count)


def next_steps(run: Path, step: int) -> str:
    """What to type after a run that has come to `step`."""
    if not step:
        return f"nothing trained yet: python train.py --resume {run} --steps 1000"
    inside = Path(sys.prefix).name == ".venv" and not os.environ.get("VIRTUAL_ENV")
    return "\n".join([
        "what next" + (" (first: . .venv/bin/activate)" if inside else "") + ":",
        f"  go on            python train.py --resume {run} --steps {2 * step}",
        "  is it right?     python compare.py",
        f"  other settings   python train.py --init-from {run}/checkpoints/step_{step:08d} "
        "--learning-rate 3e-4",
        "  a larger model   python train.py --model d6 --sequence-length 128",
        "  your own text    python train.py --data my.txt",
        "  a GPU            python train.py --device cuda --model gpt2 --batch 16 "
        "--sequence-length 1024",
    ])


def computer(device) -> str:
    """What a run computes on."""
    return (f"{device.threads} threads" if device.name == "cpu" else
            f"{device.precision.name} on {device.processor}")


def mean(losses: np.ndarray) -> float:
    """In float64, halves added to halves: quick, and the same bits on every machine."""
    total, count = losses.astype(np.float64), len(losses)
    while len(total) > 1:
        half = len(total) // 2
        total = np.concatenate([total[:half] + total[half : 2 * half], total[2 * half :]])
    return float(total[0]) / count
