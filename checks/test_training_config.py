"""Flags: all offenders at once, round trip through JSON, what a resumed run may change."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ported.training import config
from ported.training.config import Config, parse
from ported.training.errors import BadInput


def test_defaults_hold_their_own_limits():
    assert Config().check() == parse([])[0]


def test_help_names_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for field in dataclasses.fields(Config):
        assert "--" + field.name.replace("_", "-") in text
    assert text.count("(default: ") == len(dataclasses.fields(Config))


def test_flags_reach_the_configuration():
    made, flags = parse(["--steps", "5", "--learning-rate=2e-4", "--no-curve", "--prompt", "Yea,"])
    assert (made.steps, made.learning_rate, made.curve, made.prompt) == (5, 2e-4, False, "Yea,")
    assert flags == {"steps": 5, "learning_rate": 2e-4, "curve": False, "prompt": "Yea,"}


def test_all_offenders_are_named_at_once():
    with pytest.raises(BadInput) as refusal:
        parse(["--stepz", "5", "--batch", "many", "--warmup", "-1", "--clip", "nan",
               "--schedule", "cosin", "--beta1", "1", "stray"])
    text = str(refusal.value)
    for part in ["--stepz no such flag (expected perhaps --steps)",
                 "--batch 'many' (expected a whole number)",
                 "--warmup -1 (expected at least 0)",
                 "--clip nan (expected a finite number)",
                 "--schedule cosin", "did you mean cosine?", "--beta1 1.0 (expected below 1.0)",
                 "stray", "python train.py --help"]:
        assert part in text, part


def test_flag_without_value():
    with pytest.raises(BadInput, match="--steps: expected one argument"):
        parse(["--steps"])


def test_batch_that_does_not_divide_lists_divisors():
    with pytest.raises(BadInput, match=r"--micro-batch 4 .*divisor of --batch 10, as 1, 2, 5, 10"):
        parse(["--batch", "10", "--micro-batch", "4"])


def test_resume_beside_init_from():
    with pytest.raises(BadInput, match="--init-from there .*nothing beside --resume"):
        parse(["--resume", "here", "--init-from", "there"])


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12))
def test_micro_batches_cover_the_batch(micro, accumulate):
    made = Config(batch=micro * accumulate, micro_batch=micro).check()
    assert (made.micro, made.accumulate) == (micro, accumulate)


@settings(deadline=None)
@given(st.floats(1e-8, 1, exclude_max=True), st.integers(0, 2**63 - 1), st.text(), st.booleans())
def test_record_round_trip(rate, seed, prompt, overfit):
    made = Config(learning_rate=rate, seed=seed, prompt=prompt, overfit=overfit, out="elsewhere")
    back = Config.from_record(json.loads(json.dumps(made.record())))
    assert back == dataclasses.replace(made, out=Config().out)


def test_record_leaves_places_out():
    assert not {"out", "name", "resume"} & set(Config().record())


def test_foreign_record_is_refused():
    with pytest.raises(BadInput) as refusal:
        Config.from_record({"colour": 3, "steps": "many", "curve": 1}, "some/state.json")
    for part in ["some/state.json", "colour 3", '--steps "many" (expected int)', "--curve 1"]:
        assert part in str(refusal.value)


def test_resumed_run_keeps_what_decides_its_numbers():
    begun = Config(seed=3)
    assert begun.resumed({"steps": 2000, "seed": 3, "resume": "x"}, "x").steps == 2000
    with pytest.raises(BadInput) as refusal:
        begun.resumed({"seed": 4, "learning_rate": 1.0}, "runs/x")
    parts = ["--resume runs/x", "--seed 4 (expected 3, as", "--learning-rate 1.0", "leave these"]
    for part in parts:
        assert part in str(refusal.value)


def test_sections_are_fields():
    assert set(config.SECTIONS) <= {f.name for f in dataclasses.fields(Config)}
