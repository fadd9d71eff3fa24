"""Token files in llm.c's format, read a few bytes at a time whatever their size.

A file is 256 int32 (magic 20240520, version 1, number of tokens, zeros) and then uint16 tokens,
little-endian. Several files by glob make one sequence of windows; none is held open or in memory.
"""

import glob
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ported.training.errors import BadInput

MAGIC, VERSION, HEADER = 20240520, 1, 1024
VOCABULARY = 50257  # GPT-2's; a test size has less
FORMAT = "llm.c's token format: 1024 header bytes from magic 20240520, then uint16 tokens"


@dataclass(frozen=True)
class Shard:
    """One token file whose header has been read and found right."""

    path: Path
    count: int
    vocabulary: int = VOCABULARY

    @staticmethod
    def open(path: Path, vocabulary: int = VOCABULARY) -> "Shard":
        """Raises BadInput for a file that is foreign, truncated or empty."""
        try:
            with open(path, "rb") as file:
                head, size = file.read(HEADER), os.fstat(file.fileno()).st_size
        except OSError as error:
            raise BadInput(path, error.strerror, "a readable token file", "check --data") from error
        words = np.frombuffer(head[: len(head) // 4 * 4], "<i4")
        if len(head) < HEADER or words[0] != MAGIC or words[1] != VERSION:
            start = f"magic {words[0]}, version {words[1]}" if len(words) > 1 else "too few to read"
            raise BadInput(path, f"{size} bytes, {start}", FORMAT,
                           "give --data a text file or a file in this format")
        count, present = int(words[2]), (size - HEADER) // 2
        if count < 1 or size != HEADER + 2 * count:
            raise BadInput(path, f"{present} tokens ({size} bytes)",
                           f"{count} tokens ({HEADER + 2 * count} bytes), as its header says",
                           "make or download the file again; it was cut short or added to")
        return Shard(path, count, vocabulary)

    def read(self, start: int, count: int) -> np.ndarray:
        """Tokens [start, start + count) as uint16, straight from the file.

        Raises BadInput where the file has shrunk since it was opened or a token is out of range.
        """
        with open(self.path, "rb", buffering=0) as file:
            data = os.pread(file.fileno(), 2 * count, HEADER + 2 * start)
        tokens = np.frombuffer(data[: len(data) // 2 * 2], "<u2")
        if len(tokens) < count:
            raise BadInput(self.path, f"ends at token {start + len(tokens)}",
                           f"{self.count} tokens, as at the start of the run",
                           "restore the file, then resume from the last checkpoint")
        if tokens.max() >= self.vocabulary:
            at = int(np.argmax(tokens >= self.vocabulary))
            raise BadInput(self.path, f"token {start + at} is {tokens[at]}",
                           f"tokens below {self.vocabulary}, the model's vocabulary",
                           "tokenise the text with the model's tokenizer (GPT-2's)")
        return tokens


class Tokens:
    """Windows of T + 1 tokens over a list of shards: window i starts at token i*T of its shard.

    Neighbours share one token (the last target of one is the first input of the next). Windows
    never cross from one shard to another; the tail of a shard shorter than a window is left out.
    """

    def __init__(self, paths: Iterable[Path], length: int, vocabulary: int = VOCABULARY):
        """`length` is T. Raises BadInput for bad files and where not one window fits."""
        self.shards, self.length = [Shard.open(path, vocabulary) for path in paths], length
        counts = [max(0, (shard.count - 1) // length) for shard in self.shards]
        self.ends = np.cumsum([0, *counts])
        if not self.windows:
            longest = max(self.shards, key=lambda shard: shard.count)
            raise BadInput(longest.path, f"{longest.count} tokens",
                           f"at least {length + 1}: --sequence-length and one more to predict",
                           "give more text, or a smaller --sequence-length")

    @property
    def windows(self) -> int:
        return int(self.ends[-1])

    @cached_property
    def identity(self) -> str:
        """What a resumed run must find again: counts and both ends of every shard, hashed."""
        digest = hashlib.sha256()
        for shard in self.shards:
            edge = min(shard.count, 2048)
            digest.update(f"{shard.path.name} {shard.count} ".encode())
            digest.update(shard.read(0, edge).tobytes())
            digest.update(shard.read(shard.count - edge, edge).tobytes())
        return digest.hexdigest()

    def window(self, index: int) -> np.ndarray:
        """Window `index`, uint16 [T + 1]."""
        shard = int(np.searchsorted(self.ends, index, side="right")) - 1
        start = (index - int(self.ends[shard])) * self.length
        return self.shards[shard].read(start, self.length + 1)


def is_token_file(path: Path) -> bool:
    """Whether the file begins with the magic number, or claims by its name to be a token file."""
    try:
        with open(path, "rb") as file:
            head = file.read(4)
    except OSError as error:
        raise BadInput(path, error.strerror, "a readable file", "check --data") from error
    return path.suffix == ".bin" or int.from_bytes(head, "little") == MAGIC


def find(pattern: str, flag: str) -> list[Path]:
    """Files that a flag's path or glob names, sorted. Raises BadInput where there is none."""
    paths = sorted(Path(p) for p in glob.glob(os.path.expanduser(pattern)) if os.path.isfile(p))
    if not paths:
        where = Path(pattern).parent
        beside = sorted(p.name for p in where.iterdir())[:8] if where.is_dir() else []
        found = "no such file" + (f"; in {where}: {', '.join(beside)}" if beside else "")
        raise BadInput(f"{flag} {pattern}", found, "a text file, a token file, or a quoted glob",
                       f"python train.py {flag} PATH, or no {flag} for the default text")
    return paths


class Writer:
    """Writes a token file piece by piece: `with Writer(path) as w: w.write(tokens)`."""

    def __init__(self, path: Path):
        self.file, self.count = open(path, "wb"), 0
        self.file.write(bytes(HEADER))

    def write(self, tokens: Iterable[int]) -> None:
        """Raises BadInput for a token that GPT-2's vocabulary does not have."""
        piece = np.asarray(tokens, dtype=np.int64)
        if piece.size and not 0 <= piece.min() <= piece.max() < VOCABULARY:
            raise BadInput(self.file.name, f"token {piece.max()} or {piece.min()}",
                           f"0 to {VOCABULARY - 1}", "tokenise with GPT-2's tokenizer")
        self.file.write(piece.astype("<u2").tobytes())
        self.count += piece.size

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        head = np.zeros(HEADER // 4, "<i4")
        head[:3] = MAGIC, VERSION, self.count
        self.file.seek(0)
        self.file.write(head.tobytes())
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
