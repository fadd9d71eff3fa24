"""A training step on a GPU, ours against torch.compile, interleaved, with the memory of both.

    python -m checks.bench --device cuda --step --out raw.json [--size gpt2-medium] [--peer]

PyTorch's side is what its users write: bfloat16 autocast over float32 weights, torch.compile in its
default mode, fused AdamW, clipping at 1, the loss over the padded vocabulary, its loss read when a
block of steps is over. Ours reads loss and norm after every step, as train.py does. Each side is a
process of its own; blocks of steps alternate, so only one of them works at a time. Both begin with
the same weights and see the same tokens.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ported import bench
from ported.contract import ROOT

BATCHES = {"gpt2": 64, "gpt2-medium": 32, "gpt2-large": 16, "gpt2-xl": 8}
BLOCK = 5  # steps of a side at a time
WARM = 2  # blocks that do not count
DATA = 8  # different batches, in turn


def data(V: int, B: int, T: int) -> list:
    """Tokens and targets of DATA steps."""
    import numpy as np

    random, found = np.random.default_rng(0), []
    for _ in range(DATA):
        words = random.integers(0, V, (B, T + 1), dtype=np.int32)
        found.append((np.ascontiguousarray(words[:, :-1]), np.ascontiguousarray(words[:, 1:])))
    return found


class PortedSide:
    """train.py's step on its own program, kernels and memory."""

    def __init__(self, flags: list[str], unproved: bool):
        from checks import profiling
        from ported.training.config import parse

        self.config = parse(flags)[0]
        self.executor, self.device = profiling.executor_of(self.config, unproved)
        sizes = self.executor.program.sizes
        self.batches, self.done = data(sizes["V"], sizes["B"], sizes["T"]), 0
        self.executor.write("lr", 1e-4)

    def name(self) -> str:
        """The card's."""
        return self.device.processor

    def steps(self, count: int) -> list[float]:
        import numpy as np

        losses = []
        for _ in range(count):
            tokens, targets = self.batches[self.done % DATA]
            self.done += 1
            self.executor.write("tokens", tokens)
            self.executor.write("targets", targets)
            for name in ("zero", "forward", "backward", "norm"):
                self.executor.run(name)
            losses.append(float(self.executor.read("losses").mean(dtype=np.float64)))
            self.executor.read("norm")
            self.executor.write("t", self.done)
            self.executor.run("update")
        self.executor.synchronize()
        return losses

    def memory(self) -> dict:
        return {"planned": self.executor.plan.nbytes}

    def parts(self) -> list:
        """(pass, step, version, seconds) of each step of the program."""
        return [(name, *row) for name in ("zero", "forward", "backward", "norm", "update")
                for row in self.executor.profile(name)]


class TorchSide:
    """GPT-2 from stock modules, compiled. Tests run it on a processor (`place`)."""

    def __init__(self, flags: list[str], sdpa: str, place: str = "cuda"):
        import torch

        from ported.training.config import parse

        self.torch, self.config, self.sdpa = torch, parse(flags)[0], sdpa  # "" or "cudnn"
        self.place = place
        self.model, B, T = self.made(), self.config.batch, self.config.sequence_length
        self.compiled = torch.compile(self.loss)
        self.optimizer = torch.optim.AdamW(self.model.parameter_groups(self.config.weight_decay),
                                           lr=1e-4, betas=(0.9, 0.95), eps=1e-8, fused=True)
        pinned = self.place == "cuda"
        self.batches = [[torch.empty(B, T, dtype=torch.long, pin_memory=pinned).copy_(
            torch.from_numpy(part)) for part in pair] for pair in data(self.model.config.V, B, T)]
        self.done = 0

    def made(self):
        from ported.training import start
        from reference.programs.gpt2 import config, parameters
        from reference.stock.gpt2 import GPT2

        torch, size = self.torch, config(self.config.model)
        torch.set_float32_matmul_precision(
            "high" if self.config.precision == "tf32" else "highest")
        if self.sdpa == "cudnn":
            for other in ("flash", "mem_efficient", "math"):
                getattr(torch.backends.cuda, f"enable_{other}_sdp")(False)
        with torch.device("meta"):
            model = GPT2(size)
        model = model.to_empty(device=self.place)
        state = {name: torch.from_numpy(value) for name, value in
                 start.Drawn(parameters(size), self.config.seed, size)}
        model.load_state_dict(state)
        return model

    def loss(self, tokens, targets):
        logits = self.model(tokens).logits
        return self.torch.nn.functional.cross_entropy(logits.flatten(0, -2), targets.flatten())

    def name(self) -> str:
        """The card's."""
        return self.torch.cuda.get_device_name()

    def steps(self, count: int) -> list[float]:
        torch, losses = self.torch, []
        low = self.config.precision == "bfloat16"
        for _ in range(count):
            tokens, targets = (part.to(self.place, non_blocking=True)
                               for part in self.batches[self.done % DATA])
            self.done += 1
            with torch.autocast(self.place, torch.bfloat16, enabled=low):
                loss = self.compiled(tokens, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            losses.append(loss.detach())
        if self.place == "cuda":
            torch.cuda.synchronize()
        return [float(loss) for loss in losses]

    def memory(self) -> dict:
        cuda = self.torch.cuda
        if self.place == "cpu":
            return {"allocated": 1, "reserved": 1}
        return {"allocated": cuda.max_memory_allocated(), "reserved": cuda.max_memory_reserved()}

    def parts(self) -> list:
        return []


def worker(settings: dict) -> None:
    """Answers lines "steps N", "parts" with JSON lines. Standard output is kept for them."""
    answers, sys.stdout = sys.stdout, sys.stderr
    begin = time.perf_counter()
    side = (PortedSide(settings["flags"], settings["unproved"]) if settings["side"] == "ported"
            else TorchSide(settings["flags"], settings["side"].partition("_")[2]))
    side.steps(1)
    first = {"first_step_after": time.perf_counter() - begin, "device": side.name()}
    print(json.dumps(first), file=answers, flush=True)
    for line in sys.stdin:
        word, _, count = line.strip().partition(" ")
        if word == "steps":
            begin = time.perf_counter()
            losses = side.steps(int(count))
            found = {"seconds": (time.perf_counter() - begin) / int(count), "losses": losses,
                     "memory": side.memory()}
        else:
            found = {"parts": side.parts()}
        print(json.dumps(found), file=answers, flush=True)


class Side:
    """A worker as the parent sees it. `footprint`: what the card's memory in use grew by."""

    def __init__(self, settings: dict):
        before = used()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "checks.bench_step_cuda", json.dumps(settings)], cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_WAIT_POLICY": "passive"})
        self.first = self.answer()
        self.footprint = used() - before
        self.blocks: list[dict] = []

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the bench's worker ended with exit code {self.process.wait()}; "
                             "its error stands above")
        return json.loads(line)

    def ask(self, line: str) -> dict:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def used() -> int:
    """Bytes of the card's memory in use, by all processes; 0 where nvidia-smi does not say."""
    try:
        said = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--id=0",
                               "--format=csv,noheader,nounits"], capture_output=True, text=True)
        return int(said.stdout.strip()) << 20
    except (OSError, ValueError):
        return 0


def measure(flags: list[str], names: list[str], rounds: int, unproved: bool) -> dict:
    """Blocks of each side in turn; by side its figures."""
    sides = {name: Side({"side": name, "flags": flags, "unproved": unproved}) for name in names}
    for _ in range(WARM + rounds):
        for side in sides.values():
            side.blocks.append(side.ask(f"steps {BLOCK}"))
    found = {}
    for name, side in sides.items():
        found[name] = {"seconds": [b["seconds"] for b in side.blocks[WARM:]],
                       "losses": [loss for b in side.blocks for loss in b["losses"]],
                       "memory": side.blocks[-1]["memory"] | {"footprint": side.footprint},
                       **side.first, "parts": side.ask("parts")["parts"]}
        side.close()
    return found


def show(found: dict, tokens: int) -> str:
    lines = []
    for name, side in found.items():
        seconds = statistics.median(side["seconds"])
        memory = ", ".join(f"{k} {v / 1e9:.2f} GB" for k, v in side["memory"].items())
        lines.append(f"  {name:12} {seconds * 1e3:8.2f} ms  {tokens / seconds:9.0f} tokens/s  "
                     f"{memory}; first loss {side['losses'][0]:.4f}, last {side['losses'][-1]:.4f}")
        if name != "ported":
            ratio = bench.ratio(side["seconds"], found["ported"]["seconds"])
            share = found["ported"]["memory"]["planned"] / side["memory"]["allocated"]
            lines.append(f"    ours over {name}: {ratio.median:.4f} of its tokens/s (95 %: "
                         f"{ratio.low:.4f} to {ratio.high:.4f}); {share:.3f} of its memory")
    parts: dict[str, list] = {}
    for _, _, version, seconds in found["ported"]["parts"]:
        parts.setdefault(version, []).append(seconds)
    lines.append("  our steps, one by one:")
    lines += [f"    {version:44} {sum(s) * 1e3:8.3f} ms in {len(s)}" for version, s in
              sorted(parts.items(), key=lambda item: -sum(item[1]))]
    return "\n".join(lines)


def run(arguments) -> int:
    """Measures, prints, and writes the raw figures to --out."""
    B = arguments.batch or BATCHES.get(arguments.size, 64)
    flags = ["--device", "cuda", "--dtype", arguments.dtype, "--model", arguments.size, "--batch",
             str(B), "--sequence-length", str(arguments.T), *shlex.split(arguments.train)]
    peers = arguments.sides.split(",") if arguments.peer or arguments.size == "gpt2" else []
    found = measure(flags, ["ported", *peers], arguments.steps, arguments.unproved)
    print(f"{arguments.size}, B={B}, T={arguments.T}, {arguments.dtype}: {arguments.steps} blocks "
          f"of {BLOCK} steps of each side in turn\n{show(found, B * arguments.T)}")
    if arguments.out:
        from ported.evidence import store
        from ported.training.runs import commit

        store(Path(arguments.out), {"size": arguments.size, "B": B, "T": arguments.T,
                                    "dtype": arguments.dtype, "flags": flags, "commit": commit(),
                                    "date": time.strftime("%Y-%m-%d"),
                                    "device": found["ported"]["device"], "sides": found})
    return 0


if __name__ == "__main__":
    worker(json.loads(sys.argv[1]))
