"""GPT-2's first weights, by name and seed: the same whatever the order of asking.

Normal with deviation 0.02, biases 0, LayerNorm 1 and 0 (Radford et al. 2019). What adds to the
residual stream is scaled by 1/sqrt(2L), the number of additions. Padding rows are zero.
"""

import hashlib

import numpy as np


def initial(name: str, shape: tuple[int, ...], seed: int, L: int, V: int) -> np.ndarray:
    """A parameter's first value, float32, of `shape` as in memory."""
    if len(shape) == 1:
        return np.full(shape, 0.0 if name.endswith("bias") else 1.0, np.float32)
    place = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    random = np.random.Generator(np.random.Philox(key=[seed, place]))
    additions = 2 * L if name.endswith("c_proj.weight") else 1
    value = random.standard_normal(shape, np.float32)
    value *= np.float32(0.02 / additions**0.5)
    if name == "wte.weight":
        value[V:] = 0
    return value
