"""What the terminal shows of a run. It may round; the log does not."""

import os
import sys
import time
from collections.abc import Mapping
from math import prod
from pathlib import Path

EVERY = 1.0  # seconds between lines where output is no terminal


class Progress:
    """A line a step: rewritten in place on a terminal, about one a second in a file."""

    def __init__(self, steps: int, tokens: int):
        """`tokens`: of one step."""
        self.steps, self.tokens, self.pace, self.shown = steps, tokens, 0.0, -EVERY
        self.open = False

    def step(self, step: int, loss: float, norm: float, rate: float, seconds: float,
             skipped: bool = False) -> None:
        self.pace = 0.9 * self.pace + 0.1 * seconds if self.pace else seconds
        text = (f"step {step:>{len(str(self.steps))}}/{self.steps}  loss {loss:7.4f}  "
                f"norm {norm:6.3f}  lr {rate:.1e}  {seconds * 1e3:5.0f} ms  "
                f"{self.tokens / self.pace:5.0f} tokens/s{'  skipped' if skipped else ''}")
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


def parameter_count(shapes: Mapping[str, tuple[int, ...]], V: int) -> str:
    """`7.2M`: how many numbers are trained, padding not counted."""
    count = sum(prod((V, *shape[1:]) if name == "wte.weight" else shape)
                for name, shape in shapes.items())
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
        "  a GPU            not yet: CUDA kernels are the project's next chapter",
    ])
