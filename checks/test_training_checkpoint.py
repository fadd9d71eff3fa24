"""Checkpoints: exact, atomic, checked; what kill -9, full disks and changed bytes do to them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.training_run import arrays, held, save
from ported.contract import ROOT
from ported.training import checkpoint, tensor_files
from ported.training.config import Config
from ported.training.errors import BadInput


def empty():
    parameters, moments = arrays()
    for array in [*parameters.values(), *moments.values()]:
        array[...] = np.nan
    return parameters, moments


def test_round_trip_is_exact(tmp_path):
    folder = save(tmp_path, 7)
    state = checkpoint.load(folder)
    assert state["step"] == 7 and state["rate"] == 0.1 + 0.2
    back, wanted = empty(), arrays(7)
    checkpoint.restore(folder, *map(held, back), 30)
    for found, expected in zip(back, wanted, strict=True):
        for name in expected:
            assert found[name].tobytes() == expected[name].tobytes(), name


def test_same_content_same_bytes(tmp_path):
    one, other = (save(tmp_path / name, 3) for name in "ab")
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in other.iterdir()}


def test_keep_deletes_the_oldest(tmp_path):
    for step in (5, 10, 15, 20):
        save(tmp_path, step, keep=2)
    assert [checkpoint.step_of(p) for p in checkpoint.complete(tmp_path)] == [15, 20]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step_00000015", "step_00000020"]


def test_a_step_saved_again_replaces(tmp_path):
    save(tmp_path, 5, state={"turn": 1})
    assert checkpoint.load(save(tmp_path, 5, state={"turn": 2}))["turn"] == 2


FILES = ["config.json", "model.safetensors", "optimizer.safetensors", "state.json"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FILES), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_any_changed_byte_is_found(saved, file, place, change):
    path = saved / file
    data = path.read_bytes()
    at = int(place * len(data))
    path.write_bytes(data[:at] + bytes([data[at] ^ change]) + data[at + 1:])
    try:
        with pytest.raises(BadInput, match=file):
            checkpoint.load(saved)
    finally:
        path.write_bytes(data)
    checkpoint.load(saved)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("run"), 9)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("left", [0, 8, 300])
def test_cut_short_or_gone(tmp_path, file, left):
    save(tmp_path, 1)
    folder = save(tmp_path, 2)
    os.truncate(folder / file, left)
    with pytest.raises(BadInput) as caught:
        checkpoint.load(folder)
    assert file in str(caught.value) and "step_00000002" in str(caught.value.where)
    assert f"python train.py --resume {tmp_path}/checkpoints/step_00000001" in str(caught.value)
    (folder / file).unlink()
    with pytest.raises(BadInput, match=file):
        checkpoint.load(folder)


def test_other_shapes_name_every_tensor(saved):
    parameters, moments = arrays()
    parameters["h.0.mlp.c_fc.weight"] = np.zeros((16, 8), np.float32)
    del parameters["ln_f.bias"]
    parameters["extra.weight"] = np.zeros(3, np.float32)
    with pytest.raises(BadInput) as caught:
        checkpoint.restore(saved, held(parameters), held(moments), 30)
    for part in ["h.0.mlp.c_fc.weight: found [8, 32], expected [8, 16]",
                 "ln_f.bias: found [8], expected no such tensor",
                 "extra.weight: found no such tensor, expected [3]"]:
        assert part in str(caught.value)
    moments["wte.weight.m"] = np.zeros((2, 2), np.float32)
    with pytest.raises(BadInput, match=r"wte.weight.m: found \[128, 8\], expected \[2, 2\]"):
        checkpoint.restore(saved, held(arrays()[0]), held(moments), 30)


def test_format_of_another_version(tmp_path, monkeypatch):
    folder = save(tmp_path, 1)
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(BadInput, match="(?s)format 1.*format 2.*--init-from"):
        checkpoint.load(folder)


SAVER = """
import sys, pathlib
from checks.training_run import save
print("ready", flush=True)
for step in range(1, 100000):
    save(pathlib.Path(sys.argv[1]), step, keep=2)
"""


def test_kill_9_at_any_moment(tmp_path):
    """Killed while it saves without pause: what bears a checkpoint's name is whole."""
    random, reached = np.random.default_rng(0), 0
    for turn in range(6):
        run = tmp_path / str(turn)
        child = subprocess.Popen([sys.executable, "-c", SAVER, run], cwd=ROOT, text=True,
                                 stdout=subprocess.PIPE)
        assert child.stdout.readline() == "ready\n"
        time.sleep(random.uniform(0.02, 0.25))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        whole = checkpoint.complete(run)
        reached += bool(whole)
        for folder in whole:
            assert checkpoint.load(folder)["step"] == checkpoint.step_of(folder)
        last = checkpoint.step_of(whole[-1]) if whole else 0
        save(run, last + 1, keep=2)
        assert not [n for n in os.listdir(run / "checkpoints") if n.startswith(".")], "not swept"
    assert reached >= 3


EVERY = """
import os, pathlib, signal, sys
from checks.training_run import save
from ported.training import checkpoint

FILES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
folder = pathlib.Path(sys.argv[1])

def there(run):
    return {str(path.relative_to(run)): path.read_bytes() for path in run.glob("checkpoints/*/*")}

def begin(run):
    for step in (1, 2):
        save(run, step, keep=2)

def killed(run, at):
    # whether a child that saves step 3 came to its file operation number `at`
    child = os.fork()
    if child == 0:
        count = 0
        def watch(event, _):
            nonlocal count
            if event in FILES:
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(watch)
        save(run, 3, keep=2)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])

begin(folder / "0")
save(folder / "0", 3, keep=2)
promised, at = there(folder / "0"), 1
while True:
    run = folder / str(at)
    begin(run)
    if not killed(run, at):
        break
    if checkpoint.step_of(checkpoint.complete(run)[-1]) == 3:
        checkpoint.tidy(run, 2)
    else:
        save(run, 3, keep=2)
    assert there(run) == promised, (at, sorted(there(run)))
    at += 1
print(at)
"""


def test_kill_9_at_every_file_operation(tmp_path):
    """Killed before each of them in turn, then saved again or tidied: what is there is the same."""
    said = subprocess.run([sys.executable, "-c", EVERY, tmp_path], cwd=ROOT, text=True,
                          capture_output=True, timeout=300)
    assert said.returncode == 0, said.stderr
    assert int(said.stdout) > 20


FULL = """
import sys, pathlib, resource
from checks.training_run import save
run = pathlib.Path(sys.argv[1])
save(run, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
try:
    save(run, 2)
except ValueError as error:
    print(error)
"""


def test_disk_that_fills_while_saving(tmp_path):
    said = subprocess.run([sys.executable, "-c", FULL, tmp_path], cwd=ROOT, text=True,
                          capture_output=True, check=True).stdout
    for part in ["step_00000002", "File too large", "make room, then --resume",
                 "last good checkpoint is", "step_00000001"]:
        assert part in said, said
    assert os.listdir(tmp_path / "checkpoints") == ["step_00000001"]
    checkpoint.load(tmp_path / "checkpoints" / "step_00000001")


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "checkpoints").write_text("a file in the way")
    with pytest.raises(BadInput, match="(?s)step_00000001.*exists.*no checkpoint yet"):
        save(tmp_path, 1)


def test_room_is_checked_before(tmp_path):
    parameters = held(arrays()[0])
    checkpoint.check_room(tmp_path / "not" / "yet", parameters, Config(), 1000)
    every = Config(checkpoint_every=1, keep=0)
    with pytest.raises(BadInput, match="(?s)MB free.*for 100000001 checkpoints.*--keep 1"):
        checkpoint.check_room(tmp_path, parameters, every, 10**8)
    checkpoint.check_room(tmp_path, parameters, Config(checkpoint_every=1, keep=1), 10**8)


def test_find(tmp_path):
    run = tmp_path / "runs" / "a"
    folder = save(run, 4)
    with pytest.raises(BadInput, match="(?s)neither log.jsonl nor state.json"):
        checkpoint.find(str(run))
    (run / "log.jsonl").write_text("{}\n")
    newest = save(run, 12)
    assert checkpoint.find(str(run)) == (run, newest)
    assert checkpoint.find(str(folder)) == (run, folder)
    (tmp_path / "runs" / "b").mkdir()
    (tmp_path / "runs" / "b" / "log.jsonl").write_text("{}\n")
    assert checkpoint.find(str(tmp_path / "runs" / "b")) == (tmp_path / "runs" / "b", None)
    for wrong in (tmp_path / "runs", tmp_path / "runs" / "c"):
        with pytest.raises(BadInput, match=f"python train.py --resume {run}\n"):
            checkpoint.find(str(wrong))


def test_later_checkpoints_are_set_aside(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    moved = checkpoint.set_aside(tmp_path, 1)
    assert [path.name for path in moved] == ["aside_step_00000002_1", "aside_step_00000003_1"]
    assert [checkpoint.step_of(p) for p in checkpoint.complete(tmp_path)] == [1]


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text("abc.", min_size=1, max_size=6), st.integers(1, 40), min_size=1),
       st.integers(4, 300))
def test_shards_hold_everything_once(tmp_path_factory, sizes, limit):
    folder = tmp_path_factory.mktemp("shards")
    data = {n: np.arange(size, dtype=np.float32) for n, size in sizes.items()}
    files = tensor_files.write(folder, "model", held(data), limit)
    reader = tensor_files.Reader(folder, "model")
    assert {n: reader.get(n).tolist() for n in reader.places} == {
        n: a.tolist() for n, a in data.items()}
    assert (len(files) == 1) == (sum(sizes.values()) * 4 <= limit or len(sizes) == 1)
    if len(files) > 1:
        index = json.loads(files[-1].read_text())
        assert set(index["weight_map"]) == set(sizes)
