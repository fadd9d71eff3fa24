"""GPT-2 as Hugging Face's files have it, and as memory has it.

In their files the weights of c_attn, c_proj and c_fc are Conv1D's [in, out], and the vocabulary has
its V rows. In memory a weight is [out, in] and the vocabulary is padded to Vp rows of zeros.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ported.training.errors import BadInput
from ported.training.tensor_files import Reader, Tensors

TRANSPOSED = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
IGNORED = (".attn.bias", ".attn.masked_bias", "lm_head.weight")  # masks, and the tied head
EPSILON = 1e-5
NAMES = {"n_layer": "L", "n_head": "H", "n_embd": "C", "vocab_size": "V", "n_positions": "Tmax"}
FIXED = {  # what this project's GPT-2 computes; absent means yes
    "model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": EPSILON,
    "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True, "add_cross_attention": False,
}
Sizes = Mapping[str, int]  # L, H, C, V, Tmax


def config(sizes: Sizes) -> dict[str, object]:
    """The content of config.json for GPT2LMHeadModel."""
    end = sizes["V"] - 1  # <|endoftext|>, both begin and end
    return {
        "architectures": ["GPT2LMHeadModel"], **FIXED, **{k: sizes[v] for k, v in NAMES.items()},
        "n_inner": None, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
        "bos_token_id": end, "eos_token_id": end, "dtype": "float32",
    }


def sizes(folder: Path) -> dict[str, int]:
    """L, H, C, V, Tmax from a folder's config.json.

    Raises BadInput that names each entry which this project's GPT-2 cannot follow.
    """
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text())
        wrong = [f"{key} {json.dumps(found[key])} (expected {json.dumps(value)})"
                 for key, value in FIXED.items() if found.get(key, value) != value]
        wrong += [f"{key} {found.get(key)!r} (expected a whole number)" for key in NAMES
                  if not isinstance(found.get(key), int) or found[key] < 1]
    except (OSError, ValueError, AttributeError) as error:
        raise BadInput(path, error, "the config.json of a GPT-2 model",
                       "--init-from a folder that save_pretrained or a checkpoint wrote") from error
    inner, C = found.get("n_inner"), found.get("n_embd")
    if inner is not None and inner != 4 * (C or 0):
        wrong.append(f"n_inner {inner} (expected null or 4 times n_embd)")
    if wrong:
        raise BadInput(path, "\n".join(wrong), "a GPT-2 as OpenAI built it", "another --init-from")
    return {ours: found[theirs] for theirs, ours in NAMES.items()}


def file_shape(name: str, shape: tuple[int, ...], V: int) -> tuple[int, ...]:
    """The shape in their file of a parameter that has `shape` in memory."""
    if name.endswith(TRANSPOSED):
        return shape[::-1]
    return (V, *shape[1:]) if name == "wte.weight" else tuple(shape)


def to_file(name: str, array: np.ndarray, V: int) -> np.ndarray:
    """A parameter as their file has it; a view where nothing moves."""
    if name.endswith(TRANSPOSED):
        return array.T
    return array[:V] if name == "wte.weight" else array


def from_file(name: str, stored: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter of their file as memory has it, float32, padding rows zero."""
    if name.endswith(TRANSPOSED):
        return np.ascontiguousarray(stored.T, np.float32)
    out = np.zeros(shape, np.float32)
    out[: len(stored)] = stored
    return out


def as_files(parameters: Tensors, V: int) -> Tensors:
    """The parameters as their files have them; to be read only."""
    shapes = {name: file_shape(name, shape, V) for name, shape in parameters.shapes.items()}
    return Tensors(shapes, lambda name: to_file(name, parameters.read(name), V), parameters.write)


def read(folder: Path, parameters: Tensors, V: int) -> None:
    """Fills the parameters from a folder's model files, one tensor at a time.

    Reads what save_pretrained writes: one file or shards, names with or without `transformer.`.
    Raises BadInput naming every tensor that is missing, unknown or of another shape.
    """
    reader = Reader(folder, "model")
    reader.check(as_files(parameters, V).shapes, IGNORED)
    for name, shape in parameters.shapes.items():
        parameters.write(name, from_file(name, reader.get(name), shape))
