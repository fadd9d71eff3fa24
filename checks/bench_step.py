"""One training step of a GPT-2, ours against PyTorch eager, interleaved, with the memory of both.

Each side is a process of its own, so that each has its own peak memory and thread pool; the parent
lets one step while the other waits, in turn. Ours imports no torch.

    python -m checks.bench_step ported|torch '{"size": "gpt2", "B": 4, "T": 64, "threads": 2}'

is one worker: it reads "step" lines and answers each with a JSON line.
"""

import json
import resource
import subprocess
import sys
import time

from ported.contract import ROOT


def batch(size: str, B: int, T: int, step: int):
    """Tokens and targets of one step, the same for both sides."""
    import numpy as np

    from reference.programs.gpt2 import config

    tokens = np.random.default_rng(step).integers(0, config(size).V, (B, T + 1), dtype=np.int32)
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


def ported_side(size: str, B: int, T: int, threads: int):
    """Our step: zero, forward, backward, norm, AdamW, on the chosen proved kernels."""
    import numpy as np

    from ported import device, evidence
    from ported.contract import read_all
    from ported.executor import Executor, wanted
    from reference.programs.gpt2 import gpt2

    machine = device.open("cpu", threads=threads)
    program = gpt2(size, B, T, fuse="all", head_chunks=max(1, B * T // 512))
    contracts = read_all()
    chosen = evidence.choose(wanted(program, contracts), contracts, machine)
    executor = Executor(program, machine, chosen)
    normal = np.random.default_rng(0)
    for name, buffer in program.members("parameters").items():
        ones = 1.0 if name.endswith(".weight") else 0.0
        value = (0.02 * normal.standard_normal(buffer.shape, np.float32) if len(buffer.shape) == 2
                 else np.full(buffer.shape, ones, np.float32))
        executor.write(name, value)
    executor.write("dscale", np.array([1 / (B * T)], np.float32))
    executor.write("lr", np.array([1e-4], np.float32))
    executor.write("t", np.array([1], np.int32))

    def step(number: int) -> float:
        tokens, targets = batch(size, B, T, number)
        executor.write("tokens", tokens)
        executor.write("targets", targets.reshape(-1))
        executor.write("t", np.array([number], np.int32))
        for name in ("zero", "forward", "backward", "update"):
            executor.run(name)
        return float(executor.read("losses").mean(dtype=np.float64))

    step(1)
    parts = {name: executor.profile(name) for name in ("zero", "forward", "backward", "update")}
    return step, parts


def torch_side(size: str, B: int, T: int, threads: int):
    """PyTorch's step as its users write it: eager, fused AdamW, gradients set to None."""
    import torch

    from reference.stock.gpt2 import GPT2

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = GPT2(size)
    optimizer = torch.optim.AdamW(model.parameter_groups(0.1), lr=1e-4, betas=(0.9, 0.95),
                                  eps=1e-8, fused=True)

    def step(number: int) -> float:
        tokens, targets = (torch.from_numpy(a).long() for a in batch(size, B, T, number))
        loss = model(tokens, targets).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step, {}


def worker(side: str, settings: dict) -> None:
    """Answers each line "step" with seconds, loss and peak memory in bytes."""
    step, parts = {"ported": ported_side, "torch": torch_side}[side](**settings)
    print(json.dumps({"parts": parts}), flush=True)
    for number, _ in enumerate(sys.stdin, 1):
        start = time.perf_counter()
        loss = step(number)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "loss": loss, "peak": peak}), flush=True)


class Side:
    """A worker as the parent sees it."""

    def __init__(self, side: str, settings: dict):
        command = [sys.executable, "-m", "checks.bench_step", side, json.dumps(settings)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.parts = self.answer()["parts"]

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the bench's worker ended with exit code {self.process.wait()}; "
                             "its error stands above")
        return json.loads(line)

    def step(self) -> dict:
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def measure(size: str, B: int, T: int, threads: int, steps: int, warm: int = 2) -> dict:
    """Steps of both sides in turn: {"ported": {...}, "torch": {...}} with seconds, peak, losses."""
    settings = {"size": size, "B": B, "T": T, "threads": threads}
    sides = {name: Side(name, settings) for name in ("ported", "torch")}
    answers = {name: [] for name in sides}
    for _ in range(warm + steps):
        for name, side in sides.items():
            answers[name].append(side.step())
    for side in sides.values():
        side.close()
    return {name: {"seconds": [a["seconds"] for a in answers[name][warm:]],
                   "losses": [a["loss"] for a in answers[name]],
                   "peak": answers[name][-1]["peak"], "parts": sides[name].parts}
            for name in sides}


if __name__ == "__main__":
    worker(sys.argv[1], json.loads(sys.argv[2]))
