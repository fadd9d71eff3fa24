"""train.py as a process: the same bits each time, after kills too, and what bad input gets told."""

import json
import re
import shutil
import signal
import time

import numpy as np
import pytest

from checks import training_run
from checks.training_run import content, learnable, run, save, start
from ported.training import checkpoint, hugging_face, log
from ported.training.weights import initial
from reference.programs import gpt2

LONG = ["--steps", "180", "--checkpoint-every", "10", "--eval-every", "20", "--skip-loss", "2",
        "--skip-norm", "1.5", "--outlier-window", "16"]


def runs_in(folder):
    return sorted((folder / "runs").glob("2*"))


def records(run, key):
    return [record for record in log.read(run / "log.jsonl") if key in record]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(flags, run folder, what it said) of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    flags = learnable(folder)
    said = run(*flags, *LONG)
    return flags, runs_in(folder)[0], said


def test_it_learns_and_says_so(whole):
    flags, made, said = whole
    val = [record["val_loss"] for record in records(made, "val_loss")]
    assert 5.6 < val[0] < 5.8 and val[-1] < val[0] - 1  # log 301 is 5.71
    assert len(val) == 10 and [r["step"] for r in records(made, "loss")] == list(range(1, 181))
    for part in ["memory plan", "step 180: validation loss", f"run {made}", "tokens/s",
                 f"python train.py --resume {made} --steps 360", "python compare.py", "--model d6"]:
        assert part in said, part
    first = log.read(made / "log.jsonl")[0]
    assert first["config"]["steps"] == 180 and first["lock"]["kernels"] and first["device"]
    assert checkpoint.load(checkpoint.complete(made)[-1])["step"] == 180
    assert len(checkpoint.complete(made)) == 2


def test_skipped_updates_are_counted(whole):
    _, made, _ = whole
    skipped = len(records(made, "skipped"))
    state = checkpoint.load(checkpoint.complete(made)[-1])
    assert 0 < skipped < 90 and state["updates"] == 180 - skipped
    assert min(r["step"] for r in records(made, "skipped")) > 16  # the window fills first


def test_again_gives_the_same_bits(whole):
    flags, made, _ = whole
    run(*flags, *LONG)
    again = runs_in(made.parent.parent)[-1]
    assert again != made and content(again) == content(made)


def test_twenty_kills_change_nothing(whole, tmp_path):
    """One run killed with -9 twenty times, at any moment from its first line on, and resumed."""
    flags, made, _ = whole
    flags = [*flags, *LONG, "--out", tmp_path / "runs"]
    random, resumed = np.random.default_rng(), 0
    for _ in range(20):
        begun = runs_in(tmp_path)
        process = start(*(["--resume", begun[0]] if begun else flags))
        resumed += bool(begun)
        for line in process.stdout:
            if line.startswith("memory plan"):
                break
        time.sleep(random.uniform(0, 0.16))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert resumed >= 15
    last = runs_in(tmp_path)[0]
    reached = log.read(last / "log.jsonl")[-1].get("step", 0)
    run("--resume", last)
    there, promised = content(last), content(made)
    assert sorted(there) == sorted(promised), f"the twentieth kill came at step {reached}"
    assert there == promised, f"the twentieth kill came at step {reached}"


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_hand_and_resumed(whole, tmp_path, number, code):
    flags, made, _ = whole
    process = start(*flags, *LONG, "--out", tmp_path / "runs")
    for line in process.stdout:
        if line.startswith("step   1/"):
            break
    process.send_signal(number)
    said = process.communicate(timeout=20)[0]
    stopped = runs_in(tmp_path)[0]
    assert process.returncode == code and f"python train.py --resume {stopped}" in said
    step = int(re.search(r"stopped after step (\d+)", said)[1])
    assert checkpoint.step_of(checkpoint.complete(stopped)[-1]) == step < 180
    run("--resume", stopped)
    assert content(stopped) == content(made)


def test_what_a_kill_left_undeleted_goes_when_a_finished_run_is_resumed(whole):
    _, made, _ = whole
    before = content(made)
    half, old = (made / "checkpoints" / name for name in [".deleting-step_00000010",
                                                          "step_00000160"])
    half.mkdir()
    (half / "config.json").write_text("{}")
    shutil.copytree(checkpoint.complete(made)[0], old)
    run("--resume", made)
    assert not half.exists() and not old.exists() and content(made) == before


def test_second_ctrl_c_kills_at_once(whole, tmp_path):
    flags, _, _ = whole
    process = start(*flags, "--steps", "100000", "--micro-batch", "1", "--batch", "4000",
                    "--out", tmp_path / "runs")  # a step takes seconds
    for line in process.stdout:
        if line.startswith("step 0"):
            break
    process.send_signal(signal.SIGINT)
    for line in process.stdout:
        if "stopping after this step" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=1)
    assert process.returncode == -signal.SIGINT


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    """Runs of one batch of 8 in micro-batches of 8, 2 and 1: {size: records}."""
    folder = tmp_path_factory.mktemp("micro")
    flags = learnable(folder)
    for size in (8, 2, 1):
        run(*flags, "--steps", "30", "--micro-batch", size)
    return dict(zip((8, 2, 1), (log.read(made / "log.jsonl") for made in runs_in(folder)),
                    strict=True))


def test_micro_batches_agree(micro):
    """The same sequences, summed in another order: float32's rounding and no more."""
    for size in (2, 1):
        for one, other in zip(micro[8][1:], micro[size][1:], strict=True):
            assert one["step"] == other["step"]
            for key in one:
                assert other[key] == pytest.approx(one[key], rel=3e-5), (size, one, other)
    first = [records[2]["loss"] for records in micro.values()]
    assert first == pytest.approx([first[0]] * 3, rel=1e-7)


def test_longer_and_from_an_earlier_checkpoint(whole, tmp_path):
    _, made, _ = whole
    copy = tmp_path / made.name
    shutil.copytree(made, copy)
    assert "python train.py --resume" in run("--resume", copy)  # nothing left to do
    assert content(copy) == content(made)
    steps = [checkpoint.step_of(path) for path in checkpoint.complete(copy)]
    said = run("--resume", checkpoint.folder_of(copy, steps[0]), "--steps", "185")
    assert "aside_step_00000180_1" in said
    changed = [r for r in log.read(copy / "log.jsonl") if "changed" in r]
    assert changed == [{"step": 170, "changed": {"steps": 185}}]
    assert records(copy, "loss")[-1]["step"] == 185
    assert checkpoint.load(checkpoint.complete(copy)[-1])["config"]["steps"] == 185


def test_weights_of_a_checkpoint_start_another_run(whole, tmp_path):
    flags, made, _ = whole
    last = checkpoint.complete(made)[-1]
    run(*flags[2:], "--out", tmp_path / "runs", "--init-from", last, "--steps", "1")
    fresh = runs_in(tmp_path)[0]
    assert records(fresh, "val_loss")[0]["val_loss"] == records(made, "val_loss")[-1]["val_loss"]


def test_overfitting_one_batch(tmp_path):
    run(*learnable(tmp_path), "--overfit", "--batch", "2", "--steps", "150", "--learning-rate",
        "1e-2")
    losses = [record["loss"] for record in records(runs_in(tmp_path)[0], "loss")]
    assert losses[0] > 5.5 and losses[-1] < 0.1


def test_losses_that_are_not_finite_stop_the_run(tmp_path):
    said = run(*learnable(tmp_path), "--learning-rate", "1e38", "--clip", "0", "--steps", "50",
               "--checkpoint-every", "1", "--warmup", "0", code=1)
    made = runs_in(tmp_path)[0]
    done = records(made, "loss")[-1]["step"]
    for part in [f"step {done + 1}", "expected: finite numbers", "nan", str(made / "checkpoints"),
                 "lower --learning-rate"]:
        assert part in said, said
    assert checkpoint.load(checkpoint.complete(made)[-1])["step"] == done


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A Hugging Face folder of a GPT-2 with GPT-2's vocabulary and hardly more."""
    sizes = {"L": 1, "H": 1, "C": 4, "V": 50257, "Tmax": 8}
    shapes = gpt2.parameters(gpt2.Config(**sizes))
    weights = {name: initial(name, shape, 0, 1, 50257) for name, shape in shapes.items()}
    return checkpoint.save(tmp_path_factory.mktemp("small"), 1, {}, training_run.held(weights),
                           training_run.held({"m": np.zeros(1, np.float32)}), sizes)


def test_samples_and_curve(small, tmp_path):
    said = run(*learnable(tmp_path)[2:], "--init-from", small, "--sequence-length", "8", "--curve",
               "--steps", "3", "--batch", "1",
               "--sample-tokens", "12", "--sample-every", "2", "--prompt", "The quick")
    made = runs_in(tmp_path)[0]
    samples = records(made, "sample")
    assert [record["step"] for record in samples] == [2, 3]
    for record in samples:
        assert record["sample"].startswith("The quick") and len(record["sample"]) > 20
        assert f"step {record['step']}: The quick" in said
    assert (made / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert hugging_face.sizes(checkpoint.complete(made)[-1])["C"] == 4


def test_a_sample_is_what_stock_s_scores_give(small, tmp_path):
    """Word by word: scores of the last word seen, words of the vocabulary alone, a draw each."""
    import torch

    from ported.training import sampling, tensor_files, text
    from reference.stock.gpt2 import GPT2, from_hugging_face

    settings = ["--sequence-length", "8", "--sample-tokens", "12", "--temperature", "20", "--top-k",
                "0", "--prompt", "a b c", "--seed", "5", "--steps", "1", "--batch", "1"]
    run(*learnable(tmp_path)[2:], "--init-from", small, *settings)
    (made,) = runs_in(tmp_path)
    size, (last,) = gpt2.Config(L=1, H=1, C=4, Tmax=8), checkpoint.complete(made)
    reader = tensor_files.Reader(last, "model")
    state = {name: torch.from_numpy(reader.get(name)) for name in reader.places}
    model = GPT2(size)
    model.load_state_dict(from_hugging_face(state, size))
    words = text.encode("a b c")
    for number in range(12):
        with torch.no_grad():
            scores = model(torch.tensor([words[-8:]])).logits[0, -1, : size.V].numpy()
        words.append(sampling.pick(scores, 20.0, 0, sampling.draw(5, 1, number)))
    assert records(made, "sample")[-1]["sample"] == text.decode(words)


def refusals(flags, run_folder):
    data = flags[flags.index("--data") + 1]
    damaged = run_folder.parent / "damaged"
    shutil.copytree(run_folder, damaged)
    state = checkpoint.complete(damaged)[-1] / "optimizer.safetensors"
    bytes_ = bytearray(state.read_bytes())
    bytes_[-5] ^= 1
    state.write_bytes(bytes_)
    return [
        (["--model", "huge"], ["huge", "test, tiny, d6"]),
        (["--sequence-length", "64"], ["--sequence-length", "64", "at most 32"]),
        (["--batch", "10", "--micro-batch", "4"], ["divisor of --batch 10"]),
        (["--stepz", "3"], ["--stepz", "perhaps --steps"]),
        (["--data", data + "x"], ["--data", "no such file", "train.bin"]),
        (["--data", str(state)], ["optimizer.safetensors", "text in UTF-8"]),
        (["--fuse", "everything"], ["everything"]),
        (["--recompute", "nothing.*"], ["nothing.*"]),
        (["--head-chunks", "7"], ["7", "divisor"]),
        (["--out", data], ["Not a directory", "--out FOLDER"]),
        (["--init-from", str(run_folder)], ["config.json", "--init-from"]),
        (["--resume", str(run_folder), "--seed", "4"], ["--seed 4 (expected 1337"]),
        (["--resume", str(run_folder.parent)], ["neither", f"--resume {run_folder}"]),
        (["--resume", str(damaged)], ["optimizer.safetensors", "a byte has changed",
                                      f"--resume {checkpoint.complete(damaged)[0]}"]),
    ]


def test_bad_input_is_refused_in_words(whole):
    """Exit code 1 and no traceback; nothing of the good run is touched."""
    flags, made, _ = whole
    before = content(made)
    for extra, parts in refusals(flags, made):
        said = run(*([] if "--resume" in extra else flags), *extra, code=1)
        assert "Traceback" not in said and "error: " in said, said
        for part in parts:
            assert part in said, (extra, part, said)
    assert content(made) == before


def test_other_data_than_the_checkpoint_s(whole, tmp_path):
    _, made, _ = whole
    copy = tmp_path / "runs" / made.name
    shutil.copytree(made, copy)
    flags = learnable(tmp_path)
    training_run.write_tokens(tmp_path / "train.bin", np.arange(20_000) % 300)
    for folder in checkpoint.complete(copy):
        shutil.rmtree(folder)
    first, rest = (copy / "log.jsonl").read_text().split("\n", 1)
    record = json.loads(first)
    record["config"]["data"] = flags[flags.index("--data") + 1]
    (copy / "log.jsonl").write_text(json.dumps(record) + "\n" + rest)
    process = start("--resume", copy, "--steps", "2")  # no checkpoint yet: from the beginning
    assert process.wait(20) == 0
    process.communicate()
    training_run.write_tokens(tmp_path / "train.bin", np.arange(10_000) % 300)
    said = run("--resume", copy, "--steps", "3", code=1)
    for part in ["windows 624", "windows 1249", "resume with the --data"]:
        assert part in said, said


def test_checkpoint_of_another_shape(whole, tmp_path):
    """A checkpoint whose state is in order, but of another model than its tensors."""
    flags, made, _ = whole
    state = checkpoint.load(checkpoint.complete(made)[-1])
    state.pop("files")
    shutil.copytree(made, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    save(tmp_path / "run", 180, state=state)
    said = run("--resume", tmp_path / "run", code=1)
    assert "h.0.ln_1.weight.m: found [8], expected [32]" in said, said
