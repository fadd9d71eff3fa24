"""Which dtype each role has in a run, and how numbers of that dtype cross to the host.

    float32    everything
    tf32       the same memory; matrix products may round their factors to TF32
    bfloat16   activations, residual stream and parameters in bfloat16; gradients of parameters,
               statistics, losses and optimizer state in float32

NumPy has no bfloat16: it is carried as its upper 16 bits, uint16.
"""

import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

PIECE = 1 << 16  # elements that are converted at once, within a cache
MANY = 1 << 20  # elements that are worth a thread
UPPER = slice(1, None, 2) if sys.byteorder == "little" else slice(0, None, 2)  # half of a word
NUMPY = {"float32": np.float32, "bfloat16": np.uint16, "int32": np.int32}


class PrecisionError(ValueError):
    """A precision that does not exist, or that a device cannot do."""


@dataclass(frozen=True)
class Precision:
    """`dtypes` by role; `products`: to what the factors of a matrix product may be rounded."""

    name: str
    dtypes: Mapping[str, str]
    products: str = "float32"


def _roles(low: str) -> dict[str, str]:
    return {"F": low, "R": low, "P": low, "G": "float32", "F32": "float32", "I32": "int32"}


PRECISIONS = {
    "float32": Precision("float32", _roles("float32")),
    "tf32": Precision("tf32", _roles("float32"), "tf32"),
    "bfloat16": Precision("bfloat16", _roles("bfloat16"), "bfloat16"),
}
FLOAT32 = PRECISIONS["float32"]


def of(name: str) -> Precision:
    """The precision called `name`; PrecisionError names the known ones."""
    if name not in PRECISIONS:
        raise PrecisionError(f"no precision '{name}'; known: {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def encode(array, dtype: str) -> np.ndarray:
    """An array as it lies in memory: rounded to nearest, ties to even; NaN stays NaN."""
    if dtype != "bfloat16":
        return np.ascontiguousarray(array, NUMPY[dtype])
    array = np.ascontiguousarray(array, np.float32)
    found, flat = np.empty(array.shape, np.uint16), array.reshape(-1)
    into = found.reshape(-1)

    def part(start: int, stop: int) -> None:
        for at in range(start, stop, PIECE):
            end = min(at + PIECE, stop)
            _bfloat16(flat[at:end], into[at:end])
    count = min(flat.size // MANY, len(os.sched_getaffinity(0)))
    if count < 2:
        part(0, flat.size)
        return found
    bounds = [k * flat.size // count for k in range(count + 1)]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(part, bounds[:-1], bounds[1:]))
    return found


def _bfloat16(values: np.ndarray, into: np.ndarray) -> None:
    bits = values.view(np.uint32)
    rounded = bits >> np.uint32(16)
    rounded &= np.uint32(1)
    rounded += np.uint32(0x7FFF)
    rounded += bits
    into[:] = rounded.view(np.uint16)[UPPER]
    if values.size and np.isnan(values.max()):
        is_nan = np.isnan(values)
        into[is_nan] = (bits[is_nan] >> np.uint32(16)) | np.uint32(0x40)


def decode(array: np.ndarray, dtype: str) -> np.ndarray:
    """What lies in memory as NumPy's own numbers: bfloat16 as float32, exactly."""
    if dtype != "bfloat16":
        return array
    return (array.astype(np.uint32) << 16).view(np.float32)


def rounded(array, dtype: str) -> np.ndarray:
    """The numbers of `array` that `dtype` can hold, as float32 (integers as they are)."""
    return decode(encode(array, dtype), dtype)
