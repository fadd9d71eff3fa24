"""Launches of more elements than there is memory: folded memory, spread cases, asked extents."""

import ctypes
from dataclasses import replace

import numpy as np
import pytest

from checks import extents, folded, growth, huge, memory_checks, select, size, tiers
from checks.cases import axes_of
from checks.sampling import cut
from checks.shapes import Shapes
from checks.trial import Broken, Ledger, Subject
from ported import contract as contracts
from ported import device as devices
from ported import expressions, source

CONTRACTS = contracts.read_all()
CPU = devices.open("cpu", threads=2)
GIB = 1 << 30


def judged(version, device=CPU) -> Ledger:
    """The ledger of `size` on one version."""
    ledger, contract = Ledger(), CONTRACTS[version.contract_name]
    subject = Subject(version, contract, device, version.configurations()[0], ledger,
                      tier=tiers.of("deep", device))
    try:
        size.size(subject, Shapes(version, contract, device), 0)
    except Broken:
        pass
    return ledger


@pytest.fixture
def few(monkeypatch):
    """Launches just beyond 2^16 places and 2^18 elements."""
    for name in ("cpu", "emulated"):
        monkeypatch.setitem(size.AXIS, name, (16,))
        monkeypatch.setitem(size.ELEMENTS, name, (18,))
    monkeypatch.setattr(size, "WHOLE", {})


def changed(tmp_path, name: str, language: str, old: str, new: str) -> source.Version:
    """A version with one passage changed, in a file of its own."""
    version = select.read(name, language)[0]
    assert version.text.count(old) == 1
    path = tmp_path / version.path.name
    path.write_text(version.text.replace(old, new))
    return source.read(path, version.operation, version.direction)


def test_a_folded_tensor_keeps_windows_apart_and_nothing_else():
    windows = [(0, 8), (8 * GIB + 4096, 8 * GIB + 4100)]
    room = folded.Folded(9 * GIB, np.float32(-np.inf).tobytes(), windows)
    try:
        def at(place):
            return ctypes.c_float.from_address(room.address + place)
        assert at(0).value == at(8 * GIB + 4096).value == at(5 * GIB).value == -np.inf
        at(0).value, at(8 * GIB + 4096).value = 1, 2
        assert (at(0).value, at(8 * GIB + 4096).value) == (1, 2)
        assert at(folded.FOLD).value == at(9 * GIB - 4).value == -np.inf
        assert not room.fold_changed()
        at(3 * GIB).value = 3
        assert at(5 * GIB).value == 3 and at(0).value == 1 and room.fold_changed()
    finally:
        room.close()


def test_a_small_tensor_and_one_without_windows_are_memory_throughout():
    for nbytes, windows in ((4000, [(0, 4)]), (32 << 20, None)):
        room = folded.Folded(nbytes, bytes(4), windows)
        ctypes.memset(room.address, 7, 4)
        assert ctypes.c_uint8.from_address(room.address + nbytes - 1).value == 0
        room.close()


def test_places_lie_at_both_ends_and_around_the_powers_of_two():
    found = growth.positions(0, (1 << 31) // 3 + 100, growth.KEPT, [3], 1)
    for wanted in (0, (1 << 31) // 3 + 99, (1 << 31) // 3, (1 << 31) // 3 - 1, (1 << 24) // 3):
        assert wanted in found
    assert len(found) == growth.KEPT and (np.diff(found) > 0).all()


@pytest.mark.parametrize("axes", [("N", "C"), ("N", "3*C"), ("C",), ("1",)])
def test_places_of_a_tensor_are_those_of_its_elements(axes):
    contract = CONTRACTS["residual_forward"]
    launch = growth.grown(contract, "C", {"N": 3, "C": 5}, 11, 1)
    shape = [expressions.evaluate(part, {"N": 3, "C": 11}) for part in axes]
    whole = np.arange(np.prod(shape)).reshape(shape)
    expected = cut(whole, axes, launch.kept, {"N": 3, "C": 11}).reshape(-1)
    assert np.array_equal(launch.places(axes), expected)


def test_an_axis_grows_where_the_mathematics_lets_it():
    assert growth.neutral("layernorm_backward", "N") == {}
    assert growth.neutral("layernorm_forward", "C") is None
    assert growth.neutral("attention_forward", "T") is None
    assert growth.neutral("softmax_forward", "C") == {"inp": -np.inf}
    assert growth.neutral("cross_entropy_forward", "V") == {"logits": -np.inf}
    assert growth.neutral("embedding_backward", "Vp") == {}
    assert growth.neutral("classifier_forward", "V") is None  # written over what is read
    assert growth.neutral("classifier_forward", "Vp") == growth.neutral("adamw_update", "E") == {}


def test_an_axis_has_room_for_what_is_kept():
    with pytest.raises(ValueError, match="found N=5; expected room for the 6 places"):
        growth.grown(CONTRACTS["residual_forward"], "N", {"N": 6, "C": 2}, 5, 0)
    for contract in CONTRACTS.values():
        for device in size.AXIS:
            for plan in size.plans(contract, device):
                assert min(plan.sizes) >= plan.small[plan.axis]


@pytest.mark.parametrize("name", CONTRACTS)
def test_every_operation_has_a_launch_beyond_each_limit(name):
    contract = CONTRACTS[name]
    plans = list(size.plans(contract, "cpu"))
    largest = 0
    for plan in plans:
        assert set(plan.small) == set(axes_of(contract))
        launch = growth.grown(contract, plan.axis, plan.small, max(plan.sizes), 0)
        largest = max(largest, *(np.prod([float(n) for n in t.shape(launch.sizes)])
                                 for t in contract.tensors))
        assert all(np.diff(places).min() > 0 for places in launch.kept.values())
    assert largest > 2**31
    assert {plan.axis for plan in plans if (1 << 24) + size.ODD in plan.sizes}


@pytest.mark.parametrize("old, new", [
    ("(size_t)N * C; i++", "(size_t)((unsigned short)N * 1u) * C; i++"),
    ("(size_t)N * C; i++", "(size_t)N * C && i < 262144; i++"),
])
def test_an_index_that_ends_is_refused_and_the_honest_version_is_not(tmp_path, few, old, new):
    wrong = judged(changed(tmp_path, "residual_forward_01", "c", old, new))
    assert {fault.check for fault in wrong.faults} == {"size"}
    assert "spread over" in wrong.faults[0].message
    right = judged(select.read("residual_forward_01")[0])
    assert not right.faults and right.examples["size"] == 3


def test_an_input_that_is_written_between_the_kept_places_is_refused(tmp_path, few, monkeypatch):
    monkeypatch.setitem(size.AXIS, "cpu", (20,))  # buffers that are folded
    old = "out[i] = "
    new = "((float*)inp1)[i] += i == 70000; out[i] = "
    ledger = judged(changed(tmp_path, "residual_forward_01", "c", old, new))
    assert "input inp1 was changed" in str(ledger.faults)


def test_a_sum_over_a_long_axis_is_judged_with_what_stood_there(tmp_path, few):
    name, old = "layernorm_backward_03", "end = (size_t)N * (k + 1) / CHUNKS;"
    new = "end = (size_t)(N & 65535) * (k + 1) / CHUNKS;"
    right = judged(select.read(name)[0])
    assert not right.faults and right.examples["size"]
    assert judged(changed(tmp_path, name, "c", old, new)).faults


def test_the_emulated_device_goes_beyond_a_capped_grid(tmp_path, few):
    name, old = "residual_forward_01", "ceil_div(N * C, block)"
    emulated = devices.open("emulated", precision="float32")
    assert not judged(select.read(name, "cu")[0], emulated).faults
    wrong = changed(tmp_path, name, "cu", old, f"min({old}, multiprocessors * 16)")
    assert {fault.check for fault in judged(wrong, emulated).faults} == {"size"}


def test_what_no_device_can_launch_is_refused_without_a_launch(tmp_path):
    emulated = devices.open("emulated", precision="float32")
    contract = CONTRACTS["softmax_forward"]
    version = select.read("softmax_forward_03", "cu")[0]
    assert not list(extents.faults(version, contract, emulated, {"block": 256}))
    for how, said in (({"shared": "C * 4"}, "bytes of shared memory"), ({"grid": "N * 64"}, "grid"),
                      ({"grid": "N / 1000"}, "a grid of 0 blocks")):
        launches = tuple(replace(launch, **how) for launch in version.launches)
        found = list(extents.faults(replace(version, launches=launches), contract, emulated,
                                    {"block": 256}))
        assert found and said in found[0][1]
    fewer = replace(version, launches=launches, needs=("N >= 1000",))
    assert not list(extents.faults(fewer, contract, emulated, {"block": 256}))


def test_a_launch_that_would_take_too_long_is_counted_and_not_made(few, monkeypatch):
    monkeypatch.setattr(size, "LAUNCH", -1.0)
    ledger = judged(select.read("residual_forward_01")[0])
    assert not ledger.examples["size"]
    assert ledger.not_run["size: launches that would take too long"] == 3


def test_scratch_of_a_layout_of_its_own_must_fit_in_memory():
    version, contract = select.read("attention_forward_02")
    subject = Subject(version, contract, memory_checks.with_threads(CPU, 33), {}, Ledger())
    small = {axis: 2 for axis in axes_of(contract)}
    launch = growth.grown(contract, "B", small | {"B": 4}, 1 << 30, 0)
    assert not huge.too_large(subject, launch)
    launch = replace(launch, sizes=dict(launch.sizes) | {"T": 1 << 24})
    assert huge.too_large(subject, launch)
