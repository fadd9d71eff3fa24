"""Which window of the data comes when: a shuffle that is computed, not stored.

The order is one of windows (sequences of T tokens), counted from the start of training; a batch
is just the next few. So 8 micro-batches of 1 see what 1 of 8 sees, and one number says where to
resume.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ported.training.errors import BadInput
from ported.training.tokens import Tokens

ROUNDS = 6


def shuffled(index: int, count: int, seed: int, epoch: int) -> int:
    """Place `index` of a permutation of range(count) that seed and epoch choose.

    A Feistel network over the least even number of bits that holds `count`, walked until it lands
    below `count` (Black and Rogaway 2002, Ciphers with Arbitrary Finite Domains): constant memory
    for any count, any place at once.
    """
    half = max(1, ((count - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = index >> half, index & mask
        for turn in range(ROUNDS):
            left, right = right, left ^ (_mixed(right, turn, seed, epoch) & mask)
        index = left << half | right
        if index < count:
            return index


def _mixed(word: int, turn: int, seed: int, epoch: int) -> int:
    text = f"{seed} {epoch} {turn} {word}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Loader:
    """Shuffled windows, epoch after epoch. `taken` windows have been handed out."""

    def __init__(self, tokens: Tokens, seed: int, only: int = 0):
        """`only`: use but that many windows, the shuffle's first, again and again (overfitting)."""
        if only > tokens.windows:
            raise BadInput("--overfit", f"{tokens.windows} sequences of training data",
                           f"at least --batch {only}", "a smaller --batch, or more --data")
        self.tokens, self.seed, self.only, self.taken = tokens, seed, only, 0
        self._pool, self._ahead = ThreadPoolExecutor(1), None

    def next(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """(tokens, targets), int32 [batch, T] each; targets are the tokens that follow."""
        place, ahead = (self.taken, batch), self._ahead
        found = ahead[1].result() if ahead and ahead[0] == place else self._read(*place)
        self.taken, self._ahead = self.taken + batch, None
        return found

    def prepare(self, batch: int) -> None:
        """Reads the next batch meanwhile, in a thread; `next` gives it, and its errors."""
        place = (self.taken, batch)
        self._ahead = place, self._pool.submit(self._read, *place)

    def _read(self, start: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        return _parts([self.tokens.window(self._place(start + i)) for i in range(batch)])

    def _place(self, number: int) -> int:
        if self.only:
            epoch, index = 0, number % self.only
        else:
            epoch, index = divmod(number, self.tokens.windows)
        return shuffled(index, self.tokens.windows, self.seed, epoch)

    @property
    def epoch(self) -> float:
        """How often the data has been seen."""
        return self.taken / (self.only or self.tokens.windows)

    def state(self) -> dict[str, object]:
        """What a checkpoint keeps."""
        return {"taken": self.taken, "seed": self.seed, "windows": self.tokens.windows,
                "length": self.tokens.length, "data": self.tokens.identity}

    def restore(self, state: dict[str, object], where: object) -> None:
        """Raises BadInput where the data is not that of the checkpoint, naming each difference."""
        mine = self.state() | {"taken": state.get("taken")}
        wrong = [key for key in mine if state.get(key) != mine[key]]
        if wrong or not isinstance(mine["taken"], int):
            raise BadInput(f"training data, against {where}",
                           "\n".join(f"{key} {mine[key]}" for key in wrong),
                           "\n".join(f"{key} {state.get(key)}" for key in wrong),
                           "resume with the --data that the run began with")
        self.taken = mine["taken"]


def in_order(tokens: Tokens, batch: int,
             limit: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Validation batches (tokens, targets, rows that count), the same every time.

    The first `limit` windows (0: all) whatever the batch; the last batch is filled up with its own
    first row, which does not count, so the loss over them does not depend on the batch size.
    """
    count = min(limit or tokens.windows, tokens.windows)
    for start in range(0, count, batch):
        rows = [tokens.window(i) for i in range(start, min(start + batch, count))]
        yield *_parts(rows + rows[:1] * (batch - len(rows))), len(rows)


def _parts(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    block = np.stack(rows).astype(np.int32)
    return block[:, :-1], block[:, 1:]
