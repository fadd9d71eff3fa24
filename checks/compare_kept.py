"""What a checkpoint brings back: part by part, by name. See checks/compare_trainer.py.

*kept*: the flags and the model as files have them, and everything a resumed run begins with, bit
for bit: parameters, master weights, AdamW's moments, the place in the data, updates counted, recent
losses.
"""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np

from checks.compare_program import Part
from ported.training import checkpoint
from ported.training.config import Config
from reference.programs import gpt2

STEPS = 4  # of the run that is watched


def recorded(watch, size: gpt2.Config) -> Iterator[Part]:
    """What the run's last checkpoint says of its flags and its model."""
    (*_, saved) = checkpoint.complete(watch.run)
    given = watch.trainer.config
    found = Config.from_record(json.loads((saved / "state.json").read_text())["config"])
    differ = ", ".join(f.name for f in fields(Config) if not f.metadata.get("place")
                       and getattr(found, f.name) != getattr(given, f.name))
    yield Part("kept", "config", saved.name, f"found another --{differ}" if differ else "")
    yield from _files(saved, watch.state, size)


def kept(watch, again, config: Config) -> Iterator[Part]:
    """What the resumed run begins with, by name."""
    yield Part("kept", "step", "resumed", "" if again.begun == STEPS else
               f"found {again.begun}, expected {STEPS}")
    for region, members in watch.state.items():
        lost = [n for n, value in members.items()
                if not np.array_equal(again.state[region][n], value)]
        told = lost[0] if region == "parameters" and lost else region
        yield Part("kept", told, "resumed",
                   f"found other bits in {', '.join(lost[:3])}" if lost else "")
    yield from _restored(watch.trainer, again.trainer, STEPS * config.batch)


def _files(saved: Path, state: dict[str, dict[str, np.ndarray]],
           size: gpt2.Config) -> Iterator[Part]:
    """The model's files as stock reads them, and padding that is zero."""
    from safetensors.torch import load_file

    from reference.stock.gpt2 import from_hugging_face

    described = json.loads((saved / "config.json").read_text())
    yield Part("kept", "config.json", saved.name, "" if described["tie_word_embeddings"] else
               "found a head that is not tied")
    stored = {}
    for path in saved.glob("model*.safetensors"):
        stored |= load_file(path)
    rows = len(stored["wte.weight"])
    yield Part("kept", "wte.weight", saved.name, "" if rows == size.V else
               f"found {rows} words in the file, expected {size.V}")
    for name, value in from_hugging_face(stored, size).items() if rows == size.V else ():
        held = state.get("master", {}).get(f"{name}.master", state["parameters"][name])
        same = value.shape == held.shape and np.array_equal(value.numpy(), held)
        yield Part("kept", "master" if "master" in state else name, saved.name,
                   "" if same else f"found other numbers of {name} in the file")
    for members in state.values():
        for name in members:
            if name.startswith("wte.weight"):
                padded = members[name][size.V :].any()
                yield Part("kept", "wte.weight", name,
                           "found padding that is not zero" if padded else "")


def _restored(trainer, restored, taken: int) -> Iterator[Part]:
    """The host's part of the state."""
    def values(of) -> dict:
        return {kind: list(window.values) for kind, window in of.windows.items()}
    pairs = {"updates": (restored.updates, STEPS - 1),
             "windows": (values(restored), values(trainer)),
             "loader": (restored.loader.taken, taken)}
    for name, (found, expected) in pairs.items():
        yield Part("kept", name, "resumed", "" if found == expected else
                   f"found {str(found)[:80]}, expected {str(expected)[:80]}")
    ours, theirs = (each.loader.next(each.config.micro) for each in (restored, trainer))
    same = all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    yield Part("kept", "loader", "next batch", "" if same else "found another one")
