"""Which step of the program it was, after a GPU has been lost: the training step again, watched.

A fault on a GPU ends the process's use of it and does not say which launch it was. So another
process does the same step, from the last checkpoint's weights and on the same tokens, and waits
after every step of the program: the first that fails is named, with its kernel and buffers.

    python -m ported.training.trace REQUEST.json

The exit code: 0 where nothing failed, 3 where a step did; either is said on standard output.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ported import source
from ported.contract import ROOT
from ported.device import DeviceError
from ported.evidence import Choice
from ported.executor import Executor, ExecutorError
from ported.training import start
from ported.training.config import Config
from ported.training.data import open_data
from ported.training.loader import Loader
from reference.programs import gpt2

PATIENCE = 600.0  # seconds


def traced(config: Config, recorded: Mapping, checkpoint: Path | None, step: int,
           say: Callable[[str], None]) -> str:
    """What the other process says of training step `step` + 1; `recorded`: sizes and lock."""
    say("the GPU is lost; another process does this step again to see which kernel it was")
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder) / "request.json"
        request.write_text(json.dumps({
            "config": config.record(), "sizes": recorded["sizes"], "lock": recorded["lock"],
            "checkpoint": str(checkpoint or ""), "step": step}))
        command = [sys.executable, "-m", "ported.training.trace", str(request)]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                                  timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return f"the step did not come to an end within {PATIENCE:.0f} s"
    if done.returncode in (0, 3):
        return done.stdout.strip()
    return "the step could not be done again:\n" + "\n".join(done.stderr.splitlines()[-5:])


def again(asked: Mapping) -> None:
    """The step, every pass of it, then validation and a sample. Raises ExecutorError."""
    config = dataclasses.replace(Config.from_record(asked["config"]), plain=True)
    config = dataclasses.replace(config, init_from=asked["checkpoint"] or config.init_from)
    begun = start.Start(config, gpt2.Config(**asked["sizes"]), state={"lock": asked["lock"]})
    device = start.open_device(begun)
    program, _ = start.program_for(begun, device)
    versions = source.read_all(language=device.language)
    kernels = {key: Choice(versions[entry["version"]], entry["parameters"])
               for key, entry in asked["lock"]["kernels"].items()}
    executor = Executor(program, device, kernels, plain=True)
    start.fill(begun, *start.tensors(executor), start.drawn(begun))
    tokens, _ = open_data(config, lambda text: None, begun.size.V)
    loader = Loader(tokens, config.seed, only=config.batch if config.overfit else 0)
    loader.taken = asked["step"] * config.batch
    for name, value in (("dscale", 1 / (config.batch * config.sequence_length)),
                        ("lr", config.learning_rate), ("t", asked["step"] + 1)):
        executor.write(name, value)
    executor.run("zero")
    for _ in range(config.accumulate):
        for name, value in zip(("tokens", "targets"), loader.next(config.micro), strict=True):
            executor.write(name, value)
        executor.run("forward")
        executor.run("backward")
    for name in ("norm", "update", "evaluate", "sample"):
        executor.run(name)


def gone(error: BaseException | None) -> bool:
    """Whether the device was lost with this error, or with one behind it."""
    return error is not None and (type(error).__name__ == "DeviceGone" or gone(error.__cause__))


def main() -> int:
    try:
        again(json.loads(Path(sys.argv[1]).read_text()))
    except (ExecutorError, DeviceError) as error:
        print(error, flush=True)
        return 3
    print("no step of the program failed when they were done one by one", flush=True)
    return 0


if __name__ == "__main__":
    import os

    code = main()
    sys.stdout.flush()
    os._exit(code)  # a lost GPU is not waited for at exit
