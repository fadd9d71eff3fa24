"""Hugging Face's files in and out, against transformers itself and against every wrong folder."""

import json
import os

import numpy as np
import pytest

from checks.training_run import SHAPES, SIZES, arrays, held
from ported.training import checkpoint, hugging_face
from ported.training.errors import BadInput


def blank():
    return {name: np.full(shape, np.nan, np.float32) for name, shape in SHAPES.items()}


def filled():
    return arrays()[0]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    moments = {"m": np.zeros(1, np.float32)}
    return checkpoint.save(tmp_path_factory.mktemp("run"), 1, {}, held(filled()), held(moments),
                           SIZES)


def test_transformers_loads_a_checkpoint(written):
    import torch

    transformers = pytest.importorskip("transformers", reason="extra `tests`, not installed")
    model, report = transformers.GPT2LMHeadModel.from_pretrained(written, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    stored = {n.removeprefix("transformer."): p.detach() for n, p in model.named_parameters()}
    for name, array in filled().items():
        expected = hugging_face.to_file(name, array, 30)
        assert torch.equal(stored[name], torch.from_numpy(expected.copy())), name
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model(torch.tensor([[1, 2, 29]])).logits.shape == (1, 3, 30)


@pytest.mark.parametrize("shard", ["5GB", "2KB"])
@pytest.mark.parametrize("prefix", [True, False])
def test_transformers_folder_is_read(tmp_path, shard, prefix):
    transformers = pytest.importorskip("transformers", reason="extra `tests`, not installed")
    settings = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=30, n_positions=6,
                                       bos_token_id=29, eos_token_id=29)
    model = transformers.GPT2LMHeadModel(settings)
    (model if prefix else model.transformer).save_pretrained(tmp_path, max_shard_size=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 or shard == "2KB"
    assert hugging_face.sizes(tmp_path) == SIZES
    parameters = blank()
    hugging_face.read(tmp_path, held(parameters), 30)
    stored = {n.removeprefix("transformer."): p.detach().numpy()
              for n, p in model.named_parameters()}
    for name, array in parameters.items():
        assert (hugging_face.to_file(name, array, 30) == stored[name]).all(), name
    assert not parameters["wte.weight"][30:].any()


def test_own_folder_round_trip(written):
    parameters = blank()
    hugging_face.read(written, held(parameters), 30)
    assert hugging_face.sizes(written) == SIZES
    assert all((parameters[name] == array).all() for name, array in filled().items())


def copied(written, tmp_path, **changes):
    for file in ("config.json", "model.safetensors"):
        (tmp_path / file).write_bytes((written / file).read_bytes())
    settings = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, **changes}))
    return tmp_path


def test_another_architecture_is_refused_entry_by_entry(written, tmp_path):
    folder = copied(written, tmp_path, activation_function="relu", tie_word_embeddings=False,
                    layer_norm_epsilon=1e-6, n_inner=7, n_layer="two")
    with pytest.raises(BadInput) as caught:
        hugging_face.sizes(folder)
    for part in ['activation_function "relu" (expected "gelu_new")', "tie_word_embeddings false",
                 "layer_norm_epsilon 1e-06 (expected 1e-05)", "n_inner 7", "n_layer 'two'"]:
        assert part in str(caught.value)


def test_missing_folder_and_files(written, tmp_path):
    with pytest.raises(BadInput, match="(?s)config.json.*No such file.*--init-from"):
        hugging_face.sizes(tmp_path / "nowhere")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(BadInput, match="(?s)pytorch_model.bin, no model.safetensors"):
        hugging_face.read(tmp_path, held(blank()), 30)
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-1.safetensors"}}')
    with pytest.raises(BadInput, match="no model-1.safetensors beside it"):
        hugging_face.read(tmp_path, held(blank()), 30)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(BadInput, match="an index with a weight_map"):
        hugging_face.read(tmp_path, held(blank()), 30)


@pytest.mark.parametrize("left, part", [
    (0, "0 bytes"), (5, "5 bytes"), (400, "header does not read"), (9000, "ends at byte")])
def test_cut_short_names_what_is_lost(written, tmp_path, left, part):
    folder = copied(written, tmp_path)
    os.truncate(folder / "model.safetensors", left)
    with pytest.raises(BadInput) as caught:
        hugging_face.read(folder, held(blank()), 30)
    assert part in str(caught.value) and "a whole safetensors file" in str(caught.value)


def test_type_that_numpy_lacks(tmp_path):
    import torch
    from safetensors.torch import save_file

    parameters = {n: torch.zeros(hugging_face.file_shape(n, s, 30), dtype=torch.bfloat16)
                  for n, s in SHAPES.items()}
    save_file(parameters, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match="(?s)tensor ln_f.weight.*type BF16.*model.float"):
        hugging_face.read(tmp_path, held(blank()), 30)
