"""Token files: round trip, windows over shards, and every way a file can be wrong."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.training_run import write_tokens as write
from ported.training import tokens
from ported.training.errors import BadInput
from ported.training.tokens import HEADER, Shard, Tokens


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 50256), min_size=1, max_size=60), min_size=1, max_size=4),
       st.integers(1, 20))
def test_windows_are_the_shards_own_runs(tmp_path_factory, shards, length):
    folder = tmp_path_factory.mktemp("shards")
    paths = [write(folder / f"{i}.bin", shard) for i, shard in enumerate(shards)]
    expected = [shard[i * length:(i + 1) * length + 1]
                for shard in shards for i in range((len(shard) - 1) // length)]
    if not expected:
        with pytest.raises(BadInput, match=f"at least {length + 1}"):
            Tokens(paths, length)
        return
    opened = Tokens(paths, length)
    assert [opened.window(i).tolist() for i in range(opened.windows)] == expected


def test_format_is_llm_c(tmp_path):
    data = write(tmp_path / "a.bin", [0, 50256, 7]).read_bytes()
    words = np.frombuffer(data[:HEADER], "<i4")
    assert len(words) == 256 and words[:3].tolist() == [20240520, 1, 3] and not words[3:].any()
    assert np.frombuffer(data[HEADER:], "<u2").tolist() == [0, 50256, 7]


def refusal(path, change, call=lambda path: Tokens([path], 4)):
    with pytest.raises(BadInput) as caught:
        change(path)
        call(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("change, parts", [
    (lambda p: os.truncate(p, HEADER + 10), ["5 tokens (1034 bytes)", "20 tokens", "its header"]),
    (lambda p: os.truncate(p, HEADER), ["0 tokens", "20 tokens (1064 bytes)"]),
    (lambda p: os.truncate(p, 100), ["100 bytes", "llm.c's token format"]),
    (lambda p: os.truncate(p, 0), ["0 bytes, too few to read"]),
    (lambda p: p.write_bytes(p.read_bytes() + b"xy"), ["21 tokens", "added to"]),
    (lambda p: p.write_bytes(b"\x01\x02\x03\x04" + p.read_bytes()[4:]), ["magic 67305985"]),
    (lambda p: p.write_bytes(p.read_bytes()[:4] + b"\x07" + p.read_bytes()[5:]), ["version 7"]),
    (lambda p: write(p, []), ["0 tokens"]),
    (lambda p: write(p, range(4)), ["4 tokens", "at least 5", "smaller --sequence-length"]),
    (lambda p: p.unlink(), ["No such file"]),
])
def test_bad_files(tmp_path, change, parts):
    text = refusal(write(tmp_path / "a.bin", range(20)), change)
    for part in parts:
        assert part in text, part


def test_token_out_of_range_names_its_place(tmp_path):
    path = write(tmp_path / "a.bin", range(20))
    data = path.read_bytes()
    path.write_bytes(data[:HEADER + 22] + b"\xff\xff" + data[HEADER + 24:])
    opened = Tokens([path], 4)
    opened.window(1)
    assert "token 11 is 65535" in refusal(path, lambda p: opened.window(2))
    with pytest.raises(BadInput, match="token 50257"):
        write(tmp_path / "b.bin", [50257])


def test_file_that_shrinks_under_the_run(tmp_path):
    path = write(tmp_path / "a.bin", range(20))
    opened = Shard.open(path)
    os.truncate(path, HEADER + 9)
    assert "ends at token 4" in refusal(path, lambda p: opened.read(0, 10))


def test_identity_changes_with_content(tmp_path):
    first = Tokens([write(tmp_path / "a.bin", range(20))], 4).identity
    assert first == Tokens([tmp_path / "a.bin"], 4).identity
    assert first != Tokens([write(tmp_path / "a.bin", range(1, 21))], 4).identity


def test_memory_does_not_grow_with_the_file(tmp_path):
    """A file of 40 GB, sparse: its last window is read at once."""
    path = write(tmp_path / "a.bin", [1])
    count = 2**31 - 1
    with open(path, "r+b") as file:
        file.seek(8)
        file.write(np.int32(count).tobytes())
        file.truncate(HEADER + 2 * count)
    opened = Tokens([path], 1024)
    assert opened.windows == (count - 1) // 1024
    assert not opened.window(opened.windows - 1).any()


def test_find(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.bin", "a.bin", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in tokens.find("*.bin", "--data")] == ["a.bin", "b.bin"]
    with pytest.raises(BadInput) as caught:
        tokens.find("*.bim", "--data")
    for part in ["--data *.bim", "no such file; in .: a.bin, b.bin, c.txt", "--data PATH"]:
        assert part in str(caught.value)
