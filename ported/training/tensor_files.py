"""Named float32 arrays in safetensors files: written a shard at a time, read a tensor at a time.

One file `stem.safetensors` while everything fits into LIMIT bytes, else Hugging Face's
`stem-00001-of-00003.safetensors` with `stem.safetensors.index.json` beside them.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from ported.training.errors import BadInput

LIMIT = 512 << 20  # bytes of tensors in a file, and so the memory that writing may take
READABLE = ("F32", "F16", "F64")
REMEDY = "copy or download the folder again, or name another one"


@dataclass(frozen=True)
class Tensors:
    """Named float32 arrays that live elsewhere (on a device), fetched and put one at a time."""

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    write: Callable[[str, np.ndarray], None]

    @property
    def nbytes(self) -> int:
        return 4 * sum(map(prod, self.shapes.values()))


def write(folder: Path, stem: str, tensors: Tensors, limit: int = LIMIT) -> list[Path]:
    """Writes every tensor and gives the files written. Raises OSError (full disk, permission)."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    shards = _shards({name: 4 * prod(shape) for name, shape in tensors.shapes.items()}, limit)
    names = [f"{stem}.safetensors"] if len(shards) == 1 else [
        f"{stem}-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for file, shard in zip(names, shards, strict=True):
        arrays = {name: np.ascontiguousarray(tensors.read(name), "<f4") for name in shard}
        try:
            save_file(arrays, folder / file, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(f"{folder / file}: {error}") from error
    if len(shards) > 1:
        names.append(f"{stem}.safetensors.index.json")
        places = {name: file for file, shard in zip(names, shards, strict=False) for name in shard}
        index = {"metadata": {"total_size": tensors.nbytes}, "weight_map": places}
        (folder / names[-1]).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    return [folder / name for name in names]


def _shards(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    room = limit
    for name, size in sizes.items():
        if size > room and shards[-1]:
            shards.append([])
            room = limit
        shards[-1].append(name)
        room -= size
    return shards


class Reader:
    """The tensors of a stem's one or several files, by name without a leading `transformer.`."""

    def __init__(self, folder: Path, stem: str):
        """Raises BadInput where files are missing, cut short or no safetensors files."""
        self.folder, self.places, self.shapes = folder, {}, {}
        whole, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
        if not whole.is_file() and not index.is_file():
            beside = ", ".join(sorted(p.name for p in folder.glob("*"))[:8]) or "nothing"
            raise BadInput(folder, f"{beside}, no {whole.name}", f"{whole.name} or {index.name}",
                           "name a folder that save_pretrained or a checkpoint wrote")
        files = [whole] if whole.is_file() else _indexed(index)
        for path in files:
            with _open(path) as file:
                for stored in file.keys():
                    name, entry = stored.removeprefix("transformer."), file.get_slice(stored)
                    self.places[name] = (path, stored, entry.get_dtype())
                    self.shapes[name] = tuple(entry.get_shape())

    def get(self, name: str) -> np.ndarray:
        """A tensor's own copy. Raises BadInput for types that numpy does not have.

        The file is opened for each tensor: the pages that it maps would add up to its size.
        """
        path, stored, dtype = self.places[name]
        if dtype not in READABLE:
            raise BadInput(f"{path}, tensor {name}", f"type {dtype}", f"one of {READABLE}",
                           "save it as float32: model.float().save_pretrained(FOLDER)")
        with _open(path) as file:
            return file.get_tensor(stored)

    def check(self, expected: Mapping[str, tuple[int, ...]], ignored: tuple[str, ...] = ()) -> None:
        """Raises BadInput that names every tensor missing, unknown or of another shape."""
        wrong = []
        for name in sorted(expected.keys() | self.shapes.keys()):
            found = self.shapes.get(name)
            wanted = tuple(expected[name]) if name in expected else None
            if found != wanted and not name.endswith(ignored or "\0"):
                wrong.append(f"{name}: found {_shown(found)}, expected {_shown(wanted)}")
        if wrong:
            more = f"\nand {len(wrong) - 12} more" if len(wrong) > 12 else ""
            raise BadInput(self.folder, "\n".join(wrong[:12]) + more,
                           f"{len(expected)} tensors of the model's shapes",
                           "name the model that these files are of, or other files")


def _shown(shape: tuple[int, ...] | None) -> str:
    return "no such tensor" if shape is None else str(list(shape))


def _indexed(index: Path) -> list[Path]:
    try:
        files = sorted({index.parent / file for file in
                        json.loads(index.read_text())["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadInput(index, repr(error), "an index with a weight_map", REMEDY) from error
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise BadInput(index, f"no {', '.join(missing)} beside it", "every file it names", REMEDY)
    return files


def _open(path: Path):
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="numpy")
    except (OSError, SafetensorError) as error:
        found = f"{os.path.getsize(path)} bytes: {error}"
        raise BadInput(path, found + _cut(path), "a whole safetensors file", REMEDY) from error


def _cut(path: Path) -> str:
    """Which tensors a file that was cut short has lost, from its header."""
    data = path.read_bytes()[: 1 << 26]
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:start])
        ends = {name: start + entry["data_offsets"][1] for name, entry in header.items()
                if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return "; its header does not read"
    size = path.stat().st_size
    lost = [f"\n{name}: ends at byte {end}, expected within {size}"
            for name, end in ends.items() if end > size]
    return "".join(lost[:12]) + (f"\nand {len(lost) - 12} more" if len(lost) > 12 else "")
