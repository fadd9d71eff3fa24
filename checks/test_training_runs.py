"""A run's folder, its log and its picture; the first weights."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ported.contract import ROOT
from ported.training import curve, log, runs, weights
from ported.training.config import Config
from ported.training.errors import BadInput
from ported.training.log import Log
from reference.programs import gpt2

FIRST = {"record": "run", "config": {"seed": 1}}


def begin(folder):
    return runs.new_run(Config(out=str(folder), name="test"), log.line(FIRST))


def fill(run, steps, every=2):
    with Log(run) as book:
        book.cut(0)
        book.write({"step": 0, "val_loss": 5.0})
        for step in range(1, steps + 1):
            book.write({"step": step, "loss": 1 / step, "norm": 0.1 * step, "lr": 1e-3})
            if step % every == 0:
                book.write({"step": step, "val_loss": 1.1 / step})


def test_each_run_gets_a_folder_of_its_own(tmp_path):
    made = [begin(tmp_path / "runs") for _ in range(4)]
    assert len(set(made)) == 4 and all((run / "log.jsonl").is_file() for run in made)
    assert sorted(os.listdir(tmp_path / "runs")) == sorted(run.name for run in made)
    assert made[0].name.endswith("-test")


def test_run_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "runs").write_text("a file in the way")
    with pytest.raises(BadInput, match="(?s)runs.*(exists|Not a directory).*--out FOLDER"):
        begin(tmp_path / "runs")


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_keep_every_bit(value):
    assert json.loads(log.line({"loss": value}))["loss"] == value


def test_non_finite_is_not_written():
    with pytest.raises(ValueError):
        log.line({"loss": math.nan})


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 60))
def test_log_is_cut_to_the_checkpoint(tmp_path_factory, steps, back, torn):
    back = min(steps, back)
    folder = tmp_path_factory.mktemp("runs")
    whole, cut = begin(folder), begin(folder)
    fill(whole, steps)
    fill(cut, steps)
    with open(cut / "log.jsonl", "ab") as file:
        file.write(b'{"step": 13, "loss": 0.25, "norm": 1.0, "lr": 0.0001}'[:torn])
    with Log(cut) as book:
        book.cut(back)
        text = (cut / "log.jsonl").read_text()
        book.write({"step": back + 1, "loss": 2.0})
    assert (whole / "log.jsonl").read_text().startswith(text)
    kept = [json.loads(line) for line in text.splitlines()]
    assert kept[0] == FIRST
    assert [r["step"] for r in kept if "loss" in r] == list(range(1, back + 1))
    assert ("val_loss" in kept[-1]) == (back > 0 and back % 2 == 0)
    assert log.read(cut / "log.jsonl") == [*kept, {"step": back + 1, "loss": 2.0}]


def test_log_that_does_not_reach_the_checkpoint(tmp_path):
    run = begin(tmp_path)
    fill(run, 3)
    with Log(run) as book, pytest.raises(
            BadInput, match="(?s)steps up to 3.*up to 5.*--init-from"):
        book.cut(5)


def test_log_with_a_broken_line(tmp_path):
    run = begin(tmp_path)
    fill(run, 3)
    text = (run / "log.jsonl").read_text().replace('"step": 2', '"step: 2', 1)
    (run / "log.jsonl").write_text(text)
    with Log(run) as book, pytest.raises(BadInput, match="log.jsonl, line 4"):
        book.cut(3)
    (run / "log.jsonl").write_text("")
    with Log(run) as book, pytest.raises(BadInput, match="(?s)no record.*begins a new run"):
        book.cut(0)
    with pytest.raises(BadInput, match="(?s)No such file.*name a run's folder"):
        log.read(tmp_path / "log.jsonl")


def test_one_process_at_a_time(tmp_path):
    run = begin(tmp_path)
    code = ("import sys; from ported.training.log import Log; from pathlib import Path\n"
            "try: Log(Path(sys.argv[1]))\nexcept ValueError as error: print(error)")
    with Log(run):
        done = subprocess.run([sys.executable, "-c", code, run], cwd=ROOT, capture_output=True,
                              text=True, check=True)
    assert "another process is training in this run" in done.stdout


def test_times_stay_out_of_the_log(tmp_path):
    run = begin(tmp_path)
    before = (run / "log.jsonl").read_bytes()
    with Log(run) as book:
        book.time({"step": 1, "ms": 3.25})
    assert (run / "log.jsonl").read_bytes() == before
    assert json.loads((run / "timing.jsonl").read_text())["ms"] == 3.25


def test_commit_is_this_clone_s_or_none(monkeypatch):
    found = runs.commit()
    assert found is None or len(found.removesuffix("-dirty")) == 40
    monkeypatch.setenv("PATH", "")
    assert runs.commit() is None


def test_curve_is_a_picture(tmp_path):
    run = begin(tmp_path)
    assert curve.draw(run) is None
    fill(run, 40)
    data = curve.draw(run).read_bytes()
    assert data.startswith(b"\x89PNG") and len(data) > 10_000
    assert sorted(os.listdir(run)) == ["curve.png", "log.jsonl", "timing.jsonl"]


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=80), st.floats(0.01, 1))
def test_smoothing_is_a_mean_of_neighbours(values, share):
    found, last = curve.smoothed(np.array(values), share), len(values) - 1
    reach = [min(int(len(values) * share), i, last - i) for i in range(len(values))]
    expected = [np.mean(values[i - r: i + r + 1]) for i, r in enumerate(reach)]
    assert found == pytest.approx(expected, abs=1e-9)
    assert found[0] == pytest.approx(values[0]) and found[-1] == pytest.approx(values[-1])


SIZE = gpt2.Config(L=8, H=2, C=64, V=300, Tmax=50)


@pytest.mark.parametrize("name, shape", gpt2.parameters(SIZE).items())
def test_first_weights(name, shape):
    value = weights.initial(name, shape, 5, SIZE.L, SIZE.V)
    assert value.dtype == np.float32 and value.shape == shape
    if name.endswith("bias"):
        assert not value.any()
    elif len(shape) == 1:
        assert (value == 1).all()
    else:
        drawn = value[:300] if name == "wte.weight" else value
        deviation = 0.02 / (4 if name.endswith("c_proj.weight") else 1)  # sqrt(2 * 8)
        assert drawn.std() == pytest.approx(deviation, rel=6 / math.sqrt(2 * drawn.size))
        assert abs(drawn.mean()) < 5 * deviation / math.sqrt(drawn.size)
        assert not value[300:].any() or name != "wte.weight"


def test_first_weights_differ_by_name_and_seed():
    one, same, other, seed = (
        weights.initial(name, (8, 8), seed, 1, 8) for name, seed in
        (("a.weight", 1), ("a.weight", 1), ("b.weight", 1), ("a.weight", 2)))
    assert (one == same).all() and (one != other).all() and (one != seed).all()
