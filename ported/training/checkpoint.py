"""Checkpoints: a folder that is whole or not there, readable by transformers, checked byte by byte.

    runs/NAME/checkpoints/step_00000250/
        config.json  model.safetensors        GPT2LMHeadModel.from_pretrained reads these
        optimizer.safetensors                 AdamW's m and v, laid out as in memory
        state.json                            the rest, and a digest of every file and of itself

Written into a hidden folder beside it, synced, then renamed: a kill at any moment leaves the last
checkpoint as it was. Random numbers come from counters (seed, step, place), so that seed and step
are the whole random state.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from ported.training import hugging_face, tensor_files
from ported.training.config import Config
from ported.training.errors import BadInput, disk_failure
from ported.training.tensor_files import Tensors

FORMAT = 1
NAME = re.compile(r"step_(\d{8,})")


def folder_of(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step_{step:08d}"


def complete(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first. Only a whole one bears such a name."""
    found = [path for path in run.glob("checkpoints/step_*") if NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    return int(NAME.fullmatch(checkpoint.name)[1])


def check_room(run: Path, parameters: Tensors, config: Config, steps: int) -> None:
    """Raises BadInput where the checkpoints to come will not fit, before the time is spent.

    While one is written, the `keep` before it still stand.
    """
    written = 1 + steps // (config.checkpoint_every or steps or 1)
    copies = max(1, min(written, config.keep + 1 if config.keep else written) - len(complete(run)))
    there = next(path for path in [run, *run.absolute().parents] if path.exists())
    free, need = shutil.disk_usage(there).free, copies * (3 * parameters.nbytes + (1 << 20))
    if free < need:
        raise BadInput(run, f"{free / 1e6:.0f} MB free",
                       f"{need / 1e6:.0f} MB for {copies} checkpoints at a time",
                       "--keep 1, --out on a larger disk, or make room")


def save(run: Path, step: int, state: Mapping[str, object], parameters: Tensors,
         moments: Tensors, sizes: hugging_face.Sizes, keep: int = 0) -> Path:
    """Writes a checkpoint, then deletes all but the newest `keep` (0: none).

    parameters  by Hugging Face's names, shaped as in memory
    moments     by any names, saved as they are
    state       anything for JSON that `load` shall give back
    Raises BadInput on a full or read-only disk; what was complete stays so.
    """
    whole = folder_of(run, step)
    making = whole.parent / f".saving-{whole.name}"
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        _sweep(run)
        making.mkdir()
        _fill(making, {**state, "step": step}, parameters, moments, sizes)
        _retire(whole)
        os.rename(making, whole)
        _sync(whole.parent)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        last = complete(run)
        kept = f"the last good checkpoint is {last[-1]}" if last else "there is no checkpoint yet"
        raise disk_failure(whole, error, f"make room, then --resume {run}; {kept}") from error
    tidy(run, keep)
    return whole


def _fill(folder: Path, state: dict, parameters: Tensors, moments: Tensors,
          sizes: hugging_face.Sizes) -> None:
    config = folder / "config.json"
    config.write_text(json.dumps(hugging_face.config(sizes), indent=2, sort_keys=True) + "\n")
    model = tensor_files.write(folder, "model", hugging_face.as_files(parameters, sizes["V"]))
    optimizer = tensor_files.write(folder, "optimizer", moments)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)}
             for path in [config, *model, *optimizer]}
    (folder / "state.json").write_text(_sealed({"format": FORMAT, **state, "files": files}))
    for path in [*folder.iterdir(), folder]:
        _sync(path)


def _sealed(state: Mapping[str, object]) -> str:
    """State as the one text that may stand in state.json, its own digest in it."""
    text = json.dumps(state, sort_keys=True)
    sealed = {**state, "digest": hashlib.sha256(text.encode()).hexdigest()}
    return json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False) + "\n"


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _retire(folder: Path) -> None:
    """Deletes a checkpoint; its name goes first, so that half of one never bears it."""
    if folder.exists():
        hidden = folder.with_name(f".deleting-{folder.name}")
        shutil.rmtree(hidden, ignore_errors=True)
        os.rename(folder, hidden)
        shutil.rmtree(hidden)


def tidy(run: Path, keep: int) -> None:
    """Deletes what no run leaves that was not killed: all but the newest `keep` checkpoints
    (0: none), and halves of some."""
    for old in complete(run)[:-keep] if keep else []:
        _retire(old)
    _sweep(run)


def _sweep(run: Path) -> None:
    """Deletes what a killed process left of checkpoints half written or half deleted."""
    for kind in ("saving", "deleting"):
        for left in (run / "checkpoints").glob(f".{kind}-step_*"):
            shutil.rmtree(left, ignore_errors=True)


def find(path: str) -> tuple[Path, Path | None]:
    """(run, checkpoint) that --resume means: a run's newest checkpoint, or the one that is named.

    None where the run was stopped before its first checkpoint. Raises BadInput for anything else.
    """
    there = Path(path)
    if NAME.fullmatch(there.name) and (there / "state.json").is_file():
        return there.parent.parent, there
    if (there / "log.jsonl").is_file():
        return there, (complete(there) or [None])[-1]
    near = there if there.is_dir() else there.parent
    runs = sorted(log.parent for log in near.glob("*/log.jsonl"))[-5:]
    steps = [str(step) for step in complete(there)]
    found = "no such folder" if not there.exists() else "neither log.jsonl nor state.json in it"
    raise BadInput(f"--resume {path}", found, "a run's folder, or one of its checkpoints",
                   "\n".join(f"python train.py --resume {run}" for run in runs or steps)
                   or "python train.py begins a new run")


def load(checkpoint: Path) -> dict:
    """The state of a checkpoint all of whose bytes have been checked.

    Raises BadInput that names each file missing, cut short or changed.
    """
    path = checkpoint / "state.json"
    try:
        text = path.read_text()
        state = json.loads(text)
        digest = state.pop("digest")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(checkpoint, f"{path.name}: {error!r}") from error
    if text != _sealed(state):
        raise _damaged(checkpoint, f"state.json: its digest says {digest}; a byte has changed")
    if state["format"] != FORMAT:
        raise BadInput(path, f"format {state['format']}", f"format {FORMAT}",
                       f"--init-from {checkpoint} takes its weights alone")
    faults = [fault for name, entry in sorted(state["files"].items())
              if (fault := _fault(checkpoint / name, entry))]
    if faults:
        raise _damaged(checkpoint, "\n".join(faults))
    return state


def _fault(path: Path, entry: Mapping) -> str:
    if not path.is_file():
        return f"{path.name}: not there, expected {entry['bytes']} bytes"
    if path.stat().st_size != entry["bytes"]:
        return f"{path.name}: {path.stat().st_size} bytes, expected {entry['bytes']}"
    digest = _digest(path)
    return "" if digest == entry["sha256"] else (
        f"{path.name}: sha256 {digest}, expected {entry['sha256']}; a byte has changed")


def _damaged(checkpoint: Path, faults: str) -> BadInput:
    others = [path for path in complete(checkpoint.parent.parent) if path != checkpoint]
    then = [f"python train.py --resume {path}" for path in others[::-1]]
    return BadInput(f"checkpoint {checkpoint}", faults, "the bytes that were written",
                    "\n".join(then) or "begin a new run; this one has no other checkpoint")


def restore(checkpoint: Path, parameters: Tensors, moments: Tensors, V: int) -> None:
    """Fills parameters and moments, one tensor at a time. Call `load` before.

    Raises BadInput naming every tensor that is missing, unknown or of another shape.
    """
    reader = tensor_files.Reader(checkpoint, "optimizer")
    reader.check(moments.shapes)
    hugging_face.read(checkpoint, parameters, V)
    for name in moments.shapes:
        moments.write(name, reader.get(name))


def set_aside(run: Path, step: int) -> list[Path]:
    """Renames the run's checkpoints after `step` (a resumed run will come there again) and gives
    their new names. Nothing is deleted."""
    moved = []
    for later in [path for path in complete(run) if step_of(path) > step]:
        names = (later.with_name(f"aside_{later.name}_{i}") for i in range(1, 10**6))
        target = next(name for name in names if not name.exists())
        os.rename(later, target)
        moved.append(target)
    return moved
