"""Rounding at random, draw by draw: the bits are Philox's, their statistics right, the ends exact.

A launch with zero gradient and moments leaves x = weight - decay weight, so that `decay` places x
between two neighbours and the float32 x is known here to the bit.
"""

import numpy as np
import pytest

from checks import cases, gate, honest, known, runs
from checks.launch import Stage
from checks.training_run import content, learnable, run
from ported import contract, device, source
from ported.executor import Executor
from ported.precision import rounded
from ported.training import start
from ported.training.config import parse
from ported.training.errors import BadInput
from reference.program import ProgramError
from reference.programs import gpt2

CONTRACT = contract.of("adamw_stochastic_update")
VERSIONS = {name: version for name, version in source.read_all(language="cu").items()
            if version.contract_name == CONTRACT.name}
ULP = 2.0**-8  # below 1
SIGMAS = 5.0


def launch(inputs: dict, name: str = "adamw_stochastic_update_02", precision: str = "bfloat16",
           parameters: dict | None = None) -> dict[str, np.ndarray]:
    """Every output of one launch on the emulated device."""
    version = VERSIONS.get(name) or source.read_all(language="cu")[name]
    S, E = inputs["weight"].shape
    stage = Stage(device.open("emulated", precision=precision), version,
                  contract.of(version.contract_name), {"S": S, "E": E},
                  parameters or version.configurations()[0])
    return stage.run(inputs).outputs


def inputs_of(weight: np.ndarray, decay: np.ndarray, t: int = 1, seed: float = 1) -> dict:
    """No gradient, rate and weight decay 1: the step is `decay` alone."""
    zero, one = np.zeros(weight.shape, np.float32), np.ones(1, np.float32)
    return {"weight": weight.astype(np.float32), "dweight": zero, "m": zero, "v": zero,
            "decay": decay.astype(np.float32), "scale": one, "lr": one,
            "t": np.array([t], np.int32), **CONTRACT.consts, "weight_decay": 1.0, "seed": seed}


def before_rounding(inputs: dict) -> np.ndarray:
    weight, decay = inputs["weight"].astype(np.float64), inputs["decay"].astype(np.float64)
    with np.errstate(over="ignore"):
        return (weight - decay[:, None] * weight).astype(np.float32)


def drawn(places: np.ndarray, E: int, t: int = 1, seed: float = 1, **how) -> np.ndarray:
    """Which of E draws for each place went to 1, where x lies `places` of the way from 1 - ULP."""
    weight = np.ones((len(places), E), np.float32)
    found = launch(inputs_of(weight, (1 - np.asarray(places)) * ULP, t, seed), **how)["weight"]
    assert np.isin(found, (1 - ULP, 1)).all()
    return found == 1


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox4x32-10 of counters [n, 4] as words [n, 4]."""
    a, b, c, d = counter.astype(np.uint64).T
    k0, k1, low = *map(np.uint64, key), np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        a, b, c, d = q >> np.uint64(32) ^ b ^ k0, q & low, p >> np.uint64(32) ^ d ^ k1, p & low
        k0, k1 = k0 + np.uint64(0x9E3779B9) & low, k1 + np.uint64(0xBB67AE85) & low
    return np.stack([a, b, c, d], 1).astype(np.uint32)


def expected(inputs: dict) -> np.ndarray:
    """The bfloat16 that the specification in draw.cuh gives, as float32."""
    x = before_rounding(inputs)
    eights = np.zeros((-(-x.size // 8), 4), np.uint32)
    eights[:, 0], eights[:, 2] = np.arange(len(eights)), inputs["t"]
    key = np.float64(inputs["seed"]).view(np.uint64)
    words = philox(eights, (int(key) & 0xFFFFFFFF, int(key) >> 32))
    halves = np.stack([words & 0xFFFF, words >> 16], 2).reshape(-1)[:x.size].reshape(x.shape)
    return (x.view(np.uint32) + halves & 0xFFFF0000).view(np.float32)


@pytest.mark.parametrize("counter,key,words", [
    ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1")])
def test_the_generator_is_philox(counter, key, words):
    """The known answers that Random123 is distributed with."""
    counter, key, words = ([int(w, 16) for w in text.split()] for text in (counter, key, words))
    assert philox(np.array([counter]), tuple(key))[0].tolist() == words


@pytest.mark.parametrize("name", VERSIONS)
@pytest.mark.parametrize("S,E", [(3, 19), (5, 256), (1, 1), (2, 1032)])
def test_every_bit_is_as_specified_whatever_the_launch(name, S, E):
    random = np.random.default_rng(E)
    weight = rounded(random.standard_normal((S, E)).astype(np.float32), "bfloat16")
    for t, seed in ((1, 1), (70_000, 0.3), (2, -5e300)):
        inputs = inputs_of(weight, random.uniform(-0.1, 0.1, S), t, seed)
        for parameters in VERSIONS[name].configurations():
            found = launch(inputs, name, parameters=parameters)["weight"]
            np.testing.assert_array_equal(found, expected(inputs))


def test_float32_is_not_rounded():
    inputs = inputs_of(np.ones((2, 40)), np.full(2, ULP / 3))
    for name in VERSIONS:
        np.testing.assert_array_equal(launch(inputs, name, "float32")["weight"],
                                      before_rounding(inputs))


# Weights and the part of them that is taken away; between normal numbers, denormals, beyond all.
PLACES = [(1, 0.001), (1, 0.003), (-1, 0.0035), (1.5, 0.001), (-3.0, 0.007), (1e-20, 0.002),
          (2.0**-126, 0.011), (5 * 2.0**-133, 0.1), (-(2.0**-133), 0.7), (2.0**-133, 0.03),
          (3.3895313892515355e38, -0.001), (-1e30, 0.0021)]


@pytest.mark.parametrize("seed", [1, 2, 1337])
def test_the_upper_neighbour_comes_as_often_as_it_is_near(seed):
    E = 1 << 14
    weight = rounded(np.float32([w for w, _ in PLACES]), "bfloat16")
    inputs = inputs_of(np.repeat(weight[:, None], E, 1), np.array([d for _, d in PLACES]), 3, seed)
    x = before_rounding(inputs)[:, :1]
    lower = (x.view(np.uint32) & 0xFFFF0000).view(np.float32)
    upper = (x.view(np.uint32) + 0xFFFF & 0xFFFF0000).view(np.float32)
    place = (x.view(np.uint32)[:, 0] & 0xFFFF) / 2.0**16  # of the way away from zero
    assert ((place > 0.01) & (place < 0.99)).all() and np.isinf(upper).sum() == 1
    found = launch(inputs)["weight"]
    assert ((found == lower) | (found == upper)).all()
    chance = np.sqrt(place * (1 - place) / E)
    assert (np.abs((found == upper).mean(1) - place) <= SIGMAS * chance).all()


def test_places_down_to_a_thousandth_are_told_apart():
    places, E = np.array([0.0, 1e-3, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0]), 1 << 14
    up = drawn(places, E).mean(1)
    assert up[0] == 0 and up[-1] == 1
    assert (np.abs(up - places) <= SIGMAS * np.sqrt(places * (1 - places) / E)).all()


def test_the_mean_over_steps_converges_to_the_exact_value():
    places = np.array([0.1, 0.37, 0.8])
    steps = np.array([drawn(places, 64, t) for t in range(1, 129)]).astype(float)
    for count in (8, 32, 128):
        error = steps[:count].mean(0) - places[:, None]
        spread = np.sqrt(np.mean(error**2 / (places * (1 - places))[:, None]) * count)
        assert 0.8 < spread < 1.2  # it falls as 1 / sqrt(count), which draws that repeat do not
    assert (np.abs(error) <= SIGMAS / np.sqrt(4 * 128)).all()


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of fair coins, in standard deviations."""
    a, b = (2.0 * np.asarray(each).reshape(-1) - 1 for each in (a, b))
    return abs(float((a * b).mean())) * np.sqrt(a.size)


def test_draws_of_steps_seeds_and_neighbours_do_not_know_of_each_other():
    half = np.full(4, 0.5)
    first = drawn(half, 4096)
    for t, seed in ((2, 1), (3, 1), (65537, 1), (1, 2), (1, np.nextafter(1, 2)), (2, 2), (1, 0)):
        assert correlation(first, drawn(half, 4096, t, seed)) < SIGMAS, (t, seed)
    flat = first.reshape(-1)
    for away in (*range(1, 18), 32, 64, 256, 4096):
        assert correlation(flat[:-away], flat[away:]) < SIGMAS, away
    runs = np.abs(first.reshape(-1, 8).sum(1) - 4)  # of the eight that one draw serves
    assert abs((runs**2).mean() - 2) < SIGMAS * np.sqrt(7 / runs.size)


@pytest.mark.parametrize("name", VERSIONS)
def test_what_bfloat16_holds_never_moves(name):
    """All its finite numbers, zeros of both signs and denormals among them."""
    every = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    every = every[np.isfinite(every)].reshape(-1, 256)
    for seed in (1, 2):
        found = launch(inputs_of(every, np.zeros(len(every)), seed=seed), name)["weight"]
        np.testing.assert_array_equal(found, every)


@pytest.mark.parametrize("name", VERSIONS)
def test_nan_and_infinity_stay_what_they_are(name):
    every = np.arange(1 << 16, dtype=np.uint32)
    nans = (every[(every & 0x7F80 == 0x7F80) & (every & 0x7F != 0)] << 16).view(np.float32)
    inputs = inputs_of(nans.reshape(-1, 127), np.zeros(2))
    assert np.isnan(launch(inputs, name)["weight"]).all()
    inputs = inputs_of(np.ones((1, 64)), np.zeros(1))
    inputs["m"] = np.full((1, 64), np.inf, np.float32)
    inputs["m"][0, ::2] = -np.inf
    np.testing.assert_array_equal(launch(inputs, name)["weight"], -inputs["m"])


def test_small_steps_arrive_that_nearest_rounding_drops():
    """40 steps of a 32nd of the gap each: float32 moves 1.25 gaps, nearest not at all."""
    shape, steps = (4, 256), 40
    state = {kind: inputs_of(np.ones(shape), np.zeros(4)) | {
        "dweight": np.ones(shape, np.float32), "lr": np.float32([ULP / 32])}
        for kind in ("adamw", "adamw_stochastic", "float32")}
    for t in range(1, steps + 1):
        for kind, inputs in state.items():
            operation = "adamw_stochastic" if kind == "adamw_stochastic" else "adamw"
            inputs |= {"t": np.int32([t])}
            inputs |= launch(inputs, f"{operation}_update_02",
                             "float32" if kind == "float32" else "bfloat16")
    moved = {kind: (1 - inputs["weight"].astype(np.float64)) / ULP
             for kind, inputs in state.items()}
    assert not moved["adamw"].any() and np.allclose(moved["float32"], steps / 32, 1e-3)
    chance = np.sqrt(steps / 32 / moved["adamw_stochastic"].size)
    assert abs(moved["adamw_stochastic"].mean() - steps / 32) < SIGMAS * chance


def of_the_gate(found: known.Known, weight: np.ndarray) -> set[str]:
    return {f.check for f in gate.judge(found.truth, "weight", weight)[0]}


@pytest.mark.parametrize("seed", range(4))
def test_the_gate_takes_either_neighbour_and_no_habit(seed):
    case = cases.Case(CONTRACT.name, (("S", 9), ("E", 256)), seed, "randn", "bfloat16")
    found = known.of(case, CONTRACT)
    exact = honest.result(CONTRACT, found.inputs, honest.Ordered("lanes"))["weight"]
    bits = np.random.default_rng(seed).integers(0, 1 << 16, exact.shape, np.uint32)

    def carried(bits) -> np.ndarray:
        return (exact.view(np.uint32) + np.uint32(bits) & 0xFFFF0000).view(np.float32)

    assert of_the_gate(found, carried(bits)) == set()
    habits = {"to nearest": rounded(exact, "bfloat16"), "truncated": carried(0),
              "away from zero": carried(0xFFFF), "a coin": carried(bits % 2 * 0xFFFF),
              "up": np.where(exact > 0, carried(0xFFFF), carried(0))}
    for habit, weight in habits.items():
        assert of_the_gate(found, weight) == {"bias"}, habit
    two = (carried(bits).view(np.uint32) + 0x20000).view(np.float32)
    assert "element" in of_the_gate(found, two)
    assert "element" in of_the_gate(found, rounded(np.float32(1.07) * exact, "bfloat16"))
    plain = known.of(cases.Case(CONTRACT.name, case.axes, seed), CONTRACT)
    assert of_the_gate(plain, rounded(exact, "bfloat16"))  # nothing is granted to float32


FLAGS = ["--model", "test", "--sequence-length", "8", "--batch", "1", "--rounding", "stochastic"]
NARROW = ["--device", "emulated", "--dtype", "bfloat16"]


def test_the_trainer_rounds_at_random_where_it_is_told_to():
    config, _ = parse([*FLAGS, *NARROW, "--no-master", "--seed", "7"])
    program = start.program_of(config, gpt2.config("test"))
    (step,) = program.passes["update"]
    assert step.op == CONTRACT.name and step.consts["seed"] == 7 and step.consts["beta2"] == 0.95
    machine = device.open("emulated", precision="bfloat16")
    runner = Executor(program, machine, runs.kernels(program, machine, "first"))
    random = np.random.default_rng(0)
    S, E = program.buffers["parameters"].shape
    weight = rounded(random.standard_normal((S, E)).astype(np.float32), "bfloat16")
    inputs = inputs_of(weight, runner.read("decay"), 5, 7)
    inputs |= {"lr": np.float32([1e-3]), "weight_decay": 0.1}
    for name in ("parameters", "scale", "lr", "t"):
        runner.write(name, weight if name == "parameters" else inputs[name])
    runner.run("update")
    moved = runner.read("parameters")
    np.testing.assert_array_equal(moved, launch(inputs, f"{CONTRACT.name}_01")["weight"])
    assert 0 < (moved != weight).mean() < 0.2  # a step is a hundredth of a gap or so


@pytest.mark.parametrize("words", [NARROW, ["--no-master"],
                                   ["--device", "emulated", "--dtype", "float32", "--no-master"]])
def test_only_narrow_weights_without_masters_can_be_rounded_at_random(words):
    with pytest.raises(BadInput, match="--dtype bfloat16 --no-master has them"):
        parse([*FLAGS, *words])
    with pytest.raises(ProgramError, match="found master and stochastic"):
        gpt2.gpt2("test", 1, 8, master=True, stochastic=True)


def test_a_run_repeats_and_resumes_bit_for_bit(tmp_path):
    flags = [*learnable(tmp_path), *FLAGS, *NARROW, "--no-master", "--steps", "4", "--keep", "0",
             "--checkpoint-every", "2", "--sample-tokens", "0", "--eval-sequences", "1",
             "--schedule", "constant"]
    run(*flags)
    (whole,) = (tmp_path / "runs").iterdir()
    run(*flags, "--out", tmp_path / "again", "--steps", "2")
    (begun,) = (tmp_path / "again").iterdir()
    run("--resume", begun, "--steps", "4")
    last = "checkpoints/step_00000004/model.safetensors"
    assert content(begun)[last] == content(whole)[last]
    run(*flags, "--out", tmp_path / "other", "--rounding", "nearest")
    (other,) = (tmp_path / "other").iterdir()
    assert content(other)[last] != content(whole)[last]
