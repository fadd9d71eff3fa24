"""What the cuda device says when something is missing, refused, broken or hangs, and how it ends:
on the recording driver, which fails as told."""

import re

import pytest

from checks.fake_driver.record import after, passed, recorded, run

BAD = [
    ("devices=0", "found no GPU"),
    ("cuInit=100", "no CUDA-capable device is detected"),
    ("version=12080", "found a driver for CUDA 12.8; expected CUDA 13.0 or newer"),
    ("capability=75", "compute capability 7.5; expected 8.0 or newer"),
    ("cuDevicePrimaryCtxRetain=2", "gives no context"),
]


@recorded
@pytest.mark.parametrize("settings, said", BAD)
def test_machine_that_cannot_is_refused_with_reasons(tmp_path, settings, said):
    code, _, errors, _ = run("""
        try:
            devices.open("cuda")
        except devices.DeviceError as error:
            sys.exit(f"refused: {error}")
        """, tmp_path, settings)
    assert code == 1 and errors.startswith("refused: cuda: ") and said in errors


@recorded
def test_other_mistakes_at_opening(tmp_path):
    found, _ = passed("""
        import json
        said = []
        for given in (dict(precision="half"), dict(ordinal=3), dict(), dict(ordinal=1)):
            try:
                devices.open("cuda", **given)
            except (ValueError, devices.DeviceError) as error:
                said.append(str(error))
        print(json.dumps(said))
        """, tmp_path, "devices=2")
    assert "no precision 'half'" in found[0] and "found no GPU 3" in found[1]
    assert "found GPU 0 open; expected one GPU a process" in found[2]
    code, _, errors, _ = run('devices.open("cuda")', tmp_path, TRIVIUM_GPU_LIMIT="long")
    assert code and "found 'long', expected seconds" in errors


def test_without_pycuda_or_driver_the_message_says_what_to_install(tmp_path):
    hidden = """
        class Hide:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "pycuda":
                    raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        sys.meta_path.insert(0, Hide())
        """
    code, _, errors, _ = run(hidden + """
        devices.open("cuda")
        """, tmp_path)
    assert code and "found no Python package pycuda" in errors
    assert "pip install 'pycuda>=2026.1'" in errors and "nvmath-python" in errors


@recorded
def test_without_a_driver_the_message_names_the_other_devices(tmp_path):
    code, _, errors, _ = run("""
        def without(name):
            raise ImportError("libcuda.so.1: cannot open shared object file")
        from ported.device import cuda_driver
        cuda_driver.importlib.import_module = without
        cuda.open()
        """, tmp_path)
    assert code and "no GPU driver" in errors and "--device emulated" in errors


@recorded
def test_without_nvcc_opening_says_so(tmp_path):
    code, _, errors, _ = run("""
        def without():
            raise devices.DeviceError("no CUDA compiler: looked for nvcc")
        cuda_code.nvcc = without
        devices.open("cuda")
        """, tmp_path)
    assert code and "no CUDA compiler" in errors and "PyCUDA ERROR" not in errors


@recorded
def test_out_of_memory_says_wanted_and_free(tmp_path):
    code, _, errors, _ = run("""
        device = devices.open("cuda")
        device.allocate(2000)
        """, tmp_path, "free=1000")
    assert code and "wanted 2000 bytes, 1000 of 151397597184 are free" in errors


@recorded
def test_illegal_access_names_the_last_launches_and_a_trace_the_one(tmp_path):
    body = """
        device = devices.open("cuda")
        memory = device.allocate(4096)
        call = loaded(device, GELU, parameters={"block": 128}).bind(
            {"out": memory, "inp": memory}, {})
        os.environ["FAKE_DRIVER"] = "cuStreamQuery=700"
        try:
            call()
            device.fill(memory, 16)
            device.synchronize()
        except devices.DeviceError as error:
            try:
                device.read(memory, (1,), "int32")
            except type(error) as again:
                sys.exit(f"{type(error).__name__}: {error}" if again is error else "another")
        """
    code, _, errors, lines = run(body, tmp_path)
    assert code == 1 and errors.startswith("DeviceGone: cuda: while waiting")
    assert "an illegal memory access" in errors and "TRIVIUM_TRACE=1" in errors
    assert "gelu_forward_01 gelu_forward (3 blocks of 128 threads), fill" in errors
    assert lines[-1] == "cuDevicePrimaryCtxRelease_v2"
    code, _, errors, _ = run(body, tmp_path, TRIVIUM_TRACE="1")
    assert errors.startswith("DeviceGone: cuda: gelu_forward_01 gelu_forward (3 blocks of 128 "
                             "threads): ") and "Suspected" not in errors


@recorded
def test_trace_waits_after_every_launch_and_replays_plainly(tmp_path):
    _, lines = passed("""
        device = devices.open("cuda")
        memory = device.allocate(4096)
        call = loaded(device, GELU, parameters={"block": 128}).bind(
            {"out": memory, "inp": memory}, {})
        device.trace(True)
        mark("traced")
        device.replay([call, call])()
        device.trace(False)
        mark("plain")
        call()
        mark("end")
        """, tmp_path)
    assert [line.split()[0] for line in after(lines, "traced")] == [
        "cuLaunchKernel", "cuStreamQuery"] * 2
    assert [line.split()[0] for line in after(lines, "plain")] == ["cuLaunchKernel"]


@recorded
def test_refused_launch_is_blamed_alone(tmp_path):
    code, _, errors, _ = run("""
        device = devices.open("cuda")
        call = loaded(device, GELU, parameters={"block": 128}).bind({"out": 0, "inp": 0}, {})
        call()
        """, tmp_path, "cuLaunchKernel=701")
    assert code and "too many resources requested for launch" in errors
    assert "DeviceError: cuda: gelu_forward_01 gelu_forward (3 blocks of" in errors


@recorded
def test_hang_is_an_error_and_the_process_ends(tmp_path):
    code, _, errors, lines = run("""
        device = devices.open("cuda", limit=0.2)
        memory = device.allocate(64)
        call = loaded(device, GELU, parameters={"block": 128}).bind(
            {"out": memory, "inp": memory}, {})
        call()
        os.environ["FAKE_DRIVER"] = "cuStreamQuery=600"
        device.synchronize()
        """, tmp_path)
    assert code == 1 and "the GPU was not done after 0.2 s" in errors
    assert "gelu_forward_01 gelu_forward" in errors
    assert not any(re.match("cuMemFree|cuDevicePrimaryCtxRelease", line) for line in lines)


@recorded
def test_context_is_given_back_and_nothing_is_said_at_the_end(tmp_path):
    _, lines = passed("""
        import tempfile, weakref
        class Owner: pass
        owner = Owner()
        weakref.finalize(owner, print, end="")
        device = devices.open("cuda")
        memory = device.allocate(64)
        kept = [device, device.driver.Event(), loaded(device, GELU, parameters={"block": 128})]
        graph = device.replay([kept[2].bind({"out": memory, "inp": memory}, {})])
        same = devices.open("cuda", precision="bfloat16")
        assert same.card is device.card and same.evidence == "sm_90/bfloat16"
        weakref.finalize(owner, device.free, memory)
        mark("end")
        """, tmp_path)
    assert sum(line == "cuDevicePrimaryCtxRetain" for line in lines) == 1
    assert lines[-1] == "cuDevicePrimaryCtxRelease_v2"
    assert sum(line == "cuDevicePrimaryCtxRelease_v2" for line in lines) == 1
