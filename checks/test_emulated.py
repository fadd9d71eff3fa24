"""The emulated device catches each planted bug, at its line, and lets mended kernels be.

A file of fixtures/emulation has its bug where N is 1 and none where N is 2. The line that is to
blame says the kind of fault and the flavours that find it, `// <- race: races`; the other side of
a race says `// <- other`.
"""

import re
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ported import contract, device, precision, source
from ported.binding import product
from ported.device import cuda_code
from ported.device.emulated import FLAVOURS, EmulationFault
from ported.device.emulation import build

HERE = Path(__file__).resolve().parent / "fixtures" / "emulation"
PLANTED = sorted(path.stem for path in HERE.glob("*.cu") if "// <- " in path.read_text())
ORDERS = [("fifo", 0), ("reverse", 0), ("random", 1), ("warps", 1), ("warps", 2)]
C = 64


@cache
def opened(flavour: str, precision_name: str = "float32"):
    return device.open("emulated", precision=precision_name, flavour=flavour, limit=0.3)


def planted(tmp_path, directives: str, body: str) -> source.Version:
    """A kernel of the contract of gelu_forward, written on the spot."""
    lines = "".join(f"//@ {line}\n" for line in directives.splitlines())
    path = tmp_path / "forward_01_planted.cu"
    path.write_text(f'// Planted.\n//\n{lines}#include "common.cuh"\n'
                    f'extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C) '
                    f"{{\n{body}\n}}\n")
    return source.read(path, "gelu", "forward")


def read(name: str) -> source.Version:
    return source.read(HERE / f"{name}.cu", "gelu", "forward")


def run(emulated, version, N, C=C, schedule="fifo", seed=0, inp=None):
    """`out` of one call, every buffer under watch."""
    emulated.schedule, emulated.seed = schedule, seed
    agreed = contract.of("gelu_forward")
    kernel = emulated.load(version, agreed, {"N": N, "C": C}, version.configurations()[0])
    dtypes = emulated.precision.dtypes
    shapes = {"inp": (dtypes["F"], (N, C), True), "out": (dtypes["F"], (N, C), False)}
    if inp is None:
        inp = np.random.default_rng(1).standard_normal((N, C), np.float32)
    addresses, buffers = {}, {}
    for name, (dtype, shape, filled) in {**shapes, **kernel.scratch}.items():
        nbytes = product(shape) * source.DTYPES[dtype]
        addresses[name] = emulated.allocate(nbytes + 64)
        emulated.fill(addresses[name], nbytes + 64, 0xFF)
        buffers[name] = (addresses[name], nbytes, filled)
    emulated.write(addresses["inp"], precision.encode(inp, dtypes["F"]))
    emulated.watch(buffers)
    try:
        kernel.bind(addresses, {})()
        return precision.decode(emulated.read(addresses["out"], (N, C), dtypes["F"]), dtypes["F"])
    finally:
        emulated.watch()
        for address in addresses.values():
            emulated.free(address)


def marks(name: str) -> tuple[str, int, tuple[str, ...], int]:
    """Kind, line and flavours of the planted bug; the line of the other side, or 0."""
    lines = dict(enumerate((HERE / f"{name}.cu").read_text().splitlines(), 1))
    line = next(number for number, text in lines.items() if re.search(r"// <- \w+:", text))
    kind, flavours = re.search(r"// <- (\w+): ([\w ]+)", lines[line]).groups()
    other = next((number for number, text in lines.items() if "// <- other" in text), 0)
    return kind, line, tuple(flavours.split()), other


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_caught_where_it_is(name):
    kind, line, flavours, other = marks(name)
    for flavour in flavours:
        with pytest.raises(EmulationFault) as caught:
            run(opened(flavour), read(name), 1)
        fault = caught.value
        assert fault.kind == kind, fault
        if other:
            assert set(fault.lines) == {line, other}, fault
        else:
            assert fault.lines[0] == line, fault
        assert f"{name}.cu: gelu_forward, block " in str(fault)


@pytest.mark.parametrize("name", PLANTED)
def test_the_mended_kernel_is_clean_in_every_order(name):
    for flavour in FLAVOURS:
        results = [run(opened(flavour), read(name), 2, schedule=schedule, seed=seed)
                   for schedule, seed in (ORDERS if flavour == "fast" else ORDERS[2:4])]
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])


def test_only_a_warp_that_runs_ahead_shows_the_race():
    version = read("overtaking_warp")
    inp = np.random.default_rng(1).standard_normal((1, C), np.float32)

    def results(schedule, seeds):
        return [run(opened("fast"), version, 1, schedule=schedule, seed=seed, inp=inp)
                for seed in range(seeds)]
    right = results("fifo", 1)[0]
    assert all((found == right).all() for found in results("random", 8))
    assert any((found != right).any() for found in results("warps", 8))


def test_words_of_cuda():
    x = np.random.default_rng(2).standard_normal((16, C), np.float32)
    row, lane = x[0], np.arange(C) % 32
    warps, eights = row.reshape(2, 32), row.reshape(8, 8)
    ends = np.arange(C)
    expected = np.stack([
        np.full(C, (row > 0).sum()), np.ones(C), np.zeros(C),
        np.repeat((warps > 0).sum(1), 32), np.ones(C), np.repeat(eights[:, 5], 8),
        np.where(lane < 2, row, np.roll(row, 2)),
        np.where(ends % 16 >= 14, row, np.roll(row, -2)),
        np.where(lane >= 30, 2, 3), np.full(C, 496), np.zeros(C), np.repeat(eights.sum(1), 8),
        np.repeat(warps.max(1), 32), np.repeat(eights[:, 0], 8) + ends // 8 + lane, row[::-1],
        np.full(C, 8.5)], axis=1)
    for flavour in FLAVOURS:
        for schedule, seed in ORDERS:
            found = run(opened(flavour), read("words"), 16, inp=x, schedule=schedule, seed=seed)
            np.testing.assert_allclose(found.reshape(C, 16), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_fragments_and_products_of_tensor_cores(flavour):
    random = np.random.default_rng(3)
    a, b = (precision.rounded(random.standard_normal(shape), "bfloat16")
            for shape in ((16, 16), (16, 8)))
    across = np.concatenate([b[:8].T, b[8:].T])
    inp = np.concatenate([a, b, across], axis=1)
    found = run(opened(flavour, "bfloat16"), read("fragments"), 16, C=32, inp=inp)
    for start in (0, 8):
        np.testing.assert_allclose(found[:, start:start + 8], a @ b, rtol=2**-7, atol=1e-2)
    assert (found[:, 16:] == 1).all()


def test_a_copy_lands_when_it_is_waited_for_and_no_sooner():
    version = read("copy_without_wait")
    assert np.isnan(run(opened("fast"), version, 1)[0, :8]).all()
    assert not np.isnan(run(opened("fast"), version, 2)[0, :8]).any()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_words_of_bfloat16(flavour):
    inp = precision.rounded(np.random.default_rng(4).standard_normal((4, C)), "bfloat16")
    found = run(opened(flavour, "bfloat16"), read("bfloat16"), 4, inp=inp).reshape(32, 8)
    x = inp[0, :32].astype(np.float64)
    square = precision.rounded(x * x, "bfloat16")
    expected = np.stack([x * x + 1, np.exp(x), np.maximum(x, 1), square - 1.0,
                         x.reshape(16, 2)[:, ::-1].ravel(), x * x + x, np.full(32, 8.0),
                         -np.abs(x)], axis=1)
    np.testing.assert_allclose(found, precision.rounded(expected, "bfloat16"), rtol=2**-8)


@pytest.mark.parametrize(("directives", "body", "message"), [
    ("block 2048", "", "block's number of threads is 2048; at most 1024"),
    ("block 32\ngrid C * 100000000", "", "number of blocks is 6400000000; at most 2147483647"),
    ("block 32\ngrid N - 1", "", "number of blocks is 0; at least 1"),
    ("block 32\nshared shared_limit + 1", "", "shared memory in bytes is 232449; at most 232448"),
    ("block 32", "__shared__ float row[12289]; row[C] = 0; out[0] = row[N];",
     "static shared memory in bytes is 49156; at most 49152"),
    ("block 32\nshared 200000", "__shared__ float row[12288]; row[C] = 0; out[0] = row[N];",
     "shared memory in bytes is 249152; at most 232448"),
])
def test_launches_that_the_driver_would_refuse(tmp_path, directives, body, message):
    with pytest.raises(EmulationFault, match=message) as caught:
        run(opened("fast"), planted(tmp_path, directives, body), 1)
    assert caught.value.kind == "launch"


def test_a_fault_names_buffer_block_and_thread(tmp_path):
    version = planted(tmp_path, "block 32\ngrid 2",
                      "if (blockIdx.x == 1 && threadIdx.x == 5) out[N * C + 2] = inp[0];")
    with pytest.raises(EmulationFault) as caught:
        run(opened("addresses"), version, 1)
    fault = caught.value
    assert (fault.launch, fault.block, fault.thread) == ("gelu_forward", 1, 5)
    assert "write of 4 bytes at forward_01_planted.cu:7, at byte 264 of out, which has 256" in str(
        fault)


def test_without_a_watch_allocations_are_the_buffers(tmp_path):
    emulated = opened("addresses")
    version = planted(tmp_path, "block 1", "out[0] = inp[C];")
    kernel = emulated.load(version, contract.of("gelu_forward"), {"N": 1, "C": C}, {"block": 1})
    out, inp = emulated.allocate(4), emulated.allocate(4 * C)
    try:
        with pytest.raises(EmulationFault, match="at byte 256 of an allocation, which has 256"):
            kernel.bind({"out": out, "inp": inp}, {})()
    finally:
        emulated.free(out)
        emulated.free(inp)


def test_what_does_not_run_here_is_said(tmp_path):
    agreed = contract.of("gelu_forward")
    vendor = tmp_path / "forward_01_library.py"
    vendor.write_text("# A library's.\n#@ dtype all=float32\n")
    clusters = planted(tmp_path, "launch gelu_forward grid=2 block=32 cluster=2", "")
    with pytest.raises(device.NotApplicable, match="vendor library; it runs on cuda only"):
        opened("fast").load(source.read(vendor, "gelu", "forward"), agreed, {"N": 1, "C": 1}, {})
    with pytest.raises(device.NotApplicable, match="clusters of blocks are not emulated"):
        opened("fast").load(clusters, agreed, {"N": 1, "C": 1}, {})
    with pytest.raises(device.DeviceError, match="does not compile for the emulated device"):
        run(opened("fast"), planted(tmp_path, "block 1", "no_such_function();"), 1)
    with pytest.raises(device.DeviceError, match="no flavour 'slow'; known: fast, addresses"):
        device.open("emulated", flavour="slow")


@pytest.mark.parametrize("head,body,said", [
    ("block 1", "#ifdef EMULATED\n#endif", "asks where it runs .EMULATED."),
    ("block 1", "#if __CUDA_ARCH__ >= 900\n#endif", "asks where it runs .__CUDA_ARCH__."),
    ("block 1\nflags --use_fast_math", "", "use_fast_math, which changes a GPU's arithmetic"),
    ("block 1\nflags -ftz=true", "", "ftz=true, which changes a GPU's arithmetic")])
def test_what_a_gpu_is_given_otherwise_is_not_judged(tmp_path, head, body, said):
    agreed, version = contract.of("gelu_forward"), planted(tmp_path, head, body)
    with pytest.raises(device.NotApplicable, match=said):
        opened("fast").load(version, agreed, {"N": 1, "C": 1}, {"block": 1})


def test_flags_and_headers_that_change_nothing_here_are_taken(tmp_path):
    """The project's own headers ask where they are; a file that includes them does not."""
    version = planted(tmp_path, "block 1\nflags -O3 -DMORE=1", "out[0] = inp[0];  // not EMULATED")
    assert "EMULATED" in version.meaning and "EMULATED" not in version.own
    run(opened("fast"), version, 1)


def test_a_library_is_compiled_once(monkeypatch):
    run(opened("fast"), read("missing_barrier"), 2)
    monkeypatch.setattr("ported.device.emulation.build._run", None)  # would fail if called
    run(device.open("emulated"), read("missing_barrier"), 2)


@pytest.mark.parametrize("checked", [False, True])
def test_lines_of_a_library_in_the_cache_name_no_folder_of_its_checkout(checked):
    version = read("missing_barrier")
    library = build.library(version, precision.of("float32"), {}, checked)
    lines = subprocess.run(["readelf", "--debug-dump=line", library], capture_output=True,
                           text=True, check=True).stdout
    assert build.OWN in lines and build.SOURCE in lines
    assert str(build.HERE) not in lines and str(version.path.parent) not in lines


def test_missing_headers_are_asked_for(monkeypatch):
    monkeypatch.setattr(cuda_code, "_dryrun_includes", lambda: [])
    monkeypatch.setattr(cuda_code, "_installed", lambda name: [])
    with pytest.raises(device.DeviceError, match="pip install nvidia-cuda-runtime nvidia-cuda-crt"):
        cuda_code.include_directory.__wrapped__()
