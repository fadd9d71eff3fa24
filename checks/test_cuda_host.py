"""The cuda device without a GPU: what its host side asks of the driver, as a record shows it."""

import ctypes
import re
import struct

import pytest

from checks.fake_driver import build
from checks.fake_driver.record import WAITS, after, passed, recorded, run
from ported import binding
from ported.device import NotApplicable, geometry
from ported.directives import Launch


def test_packed_arguments_lie_as_in_a_c_struct():
    values = [ctypes.c_int(7), ctypes.c_void_p(0x1122334455667788), ctypes.c_float(1.5),
              ctypes.c_double(2.5), ctypes.c_int(-1), ctypes.c_int64(1 << 40), ctypes.c_int(3)]
    expected = struct.pack("@iPfdiqi", 7, 0x1122334455667788, 1.5, 2.5, -1, 1 << 40, 3)
    assert binding.packed(values) == expected
    assert len(binding.packed(values[:3])) == 20  # nothing behind the last


def test_geometry_counts_and_refuses():
    integers = {"N": 10, "block": 4}
    found = geometry.geometry("v", Launch("f", "ceil_div(N, block)", "block", "8"), integers)
    assert found == geometry.Geometry(3, 4, 8)
    for launch, said in [(Launch("f", "1", "block * 512"), "2048 threads a block"),
                         (Launch("f", "0"), "a grid of 0 blocks"),
                         (Launch("f", "2147483648"), "a grid of 2147483648 blocks"),
                         (Launch("f", shared="0 - N"), "-10 bytes"),
                         (Launch("f", "N", cluster="4"), "a grid of 10 blocks in clusters of 4")]:
        with pytest.raises(NotApplicable, match=f"v, launch of f: found {said}"):
            geometry.geometry("v", launch, integers)


@recorded
def test_launch_has_the_arguments_of_its_signature(tmp_path):
    text = """//@ dtype all=float32 | F=bfloat16
//@ launch gelu_forward grid=ceil_div(N,2) block=64 shared=1024
//@ scratch part F32["N"]
extern "C" __global__ void gelu_forward(int N, F* out, float* part, int64_t C, const F* inp,
                                        int multiprocessors) {}
"""
    _, lines = passed(f"""
        device = devices.open("cuda", precision="bfloat16")
        kernel = loaded(device, {text!r})
        assert kernel.scratch == {{"part": ("float32", (3,), False)}}, kernel.scratch
        kernel.bind({{"out": 0x1000, "inp": 0x2000, "part": 0x3000}}, {{}})()
        """, tmp_path)
    launch = next(line for line in lines if line.startswith("cuLaunchKernel "))
    expected = struct.pack("@iPPqPi", 3, 0x1000, 0x3000, 100, 0x2000, 132)
    assert launch.endswith(f"args={expected.hex()}")
    assert "gelu_forward grid=2,1,1 block=64,1,1 shared=1024" in launch


@recorded
def test_consts_are_float_or_double_as_the_signature_says(tmp_path):
    _, lines = passed("""
        device = devices.open("cuda")
        path = folder / "forward_01_x.cu"
        path.write_text('extern "C" __global__ void layernorm_forward(F* out, float* mean, '
                        'float* rstd, const R* inp, const P* weight, const P* bias, float eps, '
                        'int C) {}')
        file = source.read(path, "layernorm", "forward")
        kernel = device.load(file, contract.of("layernorm_forward"), {"N": 2, "C": 5}, {})
        names = ("out", "mean", "rstd", "inp", "weight", "bias")
        kernel.bind({name: 16 * k for k, name in enumerate(names)}, {"eps": 1e-3})()
        """, tmp_path)
    launch = next(line for line in lines if line.startswith("cuLaunchKernel "))
    assert launch.endswith(struct.pack("@6Pfi", 0, 16, 32, 48, 64, 80, 1e-3, 5).hex())


@recorded
def test_everything_goes_to_one_stream(tmp_path):
    _, lines = passed("""
        device = devices.open("cuda")
        memory = device.allocate(4096)
        call = loaded(device, GELU, parameters={"block": 128}).bind(
            {"out": memory, "inp": memory}, {})
        call()
        device.write(memory, np.ones(4, np.float32))
        device.write(memory, np.ones(2 ** 20, np.float32)[:700])
        device.replay([call])()
        device.read(memory, (4,), "float32")
        device.elapsed(call, 2)
        """, tmp_path)
    streams = {word for line in lines for word in line.split() if word.startswith("stream=")}
    assert len(streams) == 1
    assert sum("cuStreamCreate" in line for line in lines) == 1
    assert "flags=1" in next(line for line in lines if "cuStreamCreate" in line)
    assert not any(re.match(r"cuMemcpy(HtoD|DtoH)_v2", line) for line in lines)


@recorded
def test_memory_starts_as_zeros_and_comes_back_as_written(tmp_path):
    found, _ = passed("""
        import json
        device = devices.open("cuda", precision="bfloat16")
        memory = device.allocate(64)
        zeros = device.read(memory, (16,), "float32").tolist()
        device.write(memory, np.arange(4, dtype=np.uint16))
        low = device.read(memory, (2, 2), "bfloat16")
        big = device.allocate(8 << 20)
        device.write(big, np.arange(2 << 20, dtype=np.int32))
        device.fill(memory + 4, 4, 0xFF)
        print(json.dumps([zeros, str(low.dtype), low.tolist(), device.available() > 0,
                          int(device.read(big + 4 * 70000, (1,), "int32")[0]),
                          int(device.read(memory + 4, (1,), "uint32")[0]), big % 256]))
        """, tmp_path)
    assert found == [[0.0] * 16, "uint16", [[0, 1], [2, 3]], True, 70000, 2**32 - 1, 0]


@recorded
def test_shared_memory_beyond_48_kib_is_asked_for_once_and_never_less(tmp_path):
    text = """//@ tune R 1 2
//@ shared C * 4 * R
extern "C" __global__ void gelu_forward(F* out, const F* inp) {}
"""
    _, lines = passed(f"""
        device = devices.open("cuda")
        for name, channels in (("small", 12000), ("large", 20000), ("less", 15000)):
            mark(name)
            loaded(device, {text!r}, dict(N=1, C=channels), dict(R=1)).bind(
                dict(out=0, inp=0), {{}})()
        mark("over")
        try:
            loaded(device, {text!r}, dict(N=1, C=60000), dict(R=1))
        except devices.NotApplicable as error:
            mark(str(error))
        """, tmp_path)
    asked = {name: [line for line in after(lines, name) if "FuncSetAttribute" in line]
             for name in ("small", "large", "less", "over")}
    assert asked == {"small": [], "less": [], "over": [],
                     "large": ["cuFuncSetAttribute gelu_forward 8 80000"]}
    assert any("needs 240000 bytes of shared memory a block" in line for line in lines)


@recorded
def test_block_that_registers_do_not_allow_is_not_applicable(tmp_path):
    code, _, errors, _ = run("""
        device = devices.open("cuda")
        loaded(device, GELU, parameters={"block": 128})
        """, tmp_path, "block_limit=64")
    assert code and "NotApplicable" in errors and "its registers allow 64" in errors


@recorded
def test_replayed_graph_has_launches_and_memsets_in_order(tmp_path):
    text = """//@ scratch part F32["C"] zeroed
//@ launch first grid=N
//@ launch gelu_forward grid=C
__global__ void first(float* part) {}
extern "C" __global__ void gelu_forward(F* out, const F* inp, float* part) {}
"""
    _, lines = passed(f"""
        from functools import partial
        device = devices.open("cuda")
        memory = device.allocate(4096)
        call = loaded(device, {text!r}).bind(dict(out=memory, inp=memory, part=memory), {{}})
        plain = loaded(device, GELU, parameters=dict(block=128)).bind(
            dict(out=memory, inp=memory), {{}})
        mark("capture")
        graph = device.replay([partial(device.fill, memory, 100, 0), plain, call])
        mark("replay")
        graph()
        graph()
        mark("end")
        """, tmp_path)
    order = ["cuMemsetD8Async bytes=100", "cuLaunchKernel gelu_forward grid=3,1,1 block=128",
             "cuMemsetD8Async bytes=400", "cuLaunchKernel first grid=3",
             "cuLaunchKernel gelu_forward grid=100"]
    captured = [line for line in after(lines, "capture") if line.startswith("captured ")]
    assert all(line.startswith(f"captured {word}")
               for line, word in zip(captured, order, strict=True))
    replayed = after(lines, "replay")
    assert [line.split()[0] for line in replayed] == ["cuGraphLaunch", *["node"] * 5] * 2
    assert [f"captured {line[5:]}" for line in replayed[1:6]] == captured
    assert not any(WAITS.match(line) for line in replayed)


@recorded
def test_call_that_cannot_be_captured_is_named_and_the_stream_works_again(tmp_path):
    _, lines = passed("""
        device = devices.open("cuda")
        memory = device.allocate(4096)
        call = loaded(device, GELU, parameters={"block": 128}).bind(
            {"out": memory, "inp": memory}, {})
        for bad in (device.driver.Context.synchronize, device.synchronize):
            try:
                device.replay([call, bad])
            except devices.DeviceError as error:
                mark(f"said {error}")
        mark("after")
        call()
        device.synchronize()
        """, tmp_path)
    said = [line for line in lines if line.startswith("-- said")]
    assert len(said) == 2 and all("call 1 cannot be captured" in line for line in said)
    assert [line.split()[0] for line in after(lines, "after")][:2] == [
        "cuLaunchKernel", "cuStreamQuery"]


@recorded
def test_writes_of_a_training_step_wait_for_nothing(tmp_path):
    found, lines = passed("""
        import json
        device = devices.open("cuda")
        memory = device.allocate(1 << 20)
        mark("step")
        for step in range(3):
            tokens = np.full(65536, step, np.int32)
            device.write(memory, tokens)
            device.write(memory + (1 << 19), np.float32(0.5))
            device.write(memory + (1 << 19) + 4, np.array([step], np.int32))
        mark("many")
        for step in range(80):
            device.write(memory, np.full(65536, step, np.int32))
        mark("end")
        print(json.dumps([int(device.read(memory, (1,), "int32")[0]),
                          float(device.read(memory + (1 << 19), (1,), "float32")[0])]))
        """, tmp_path)
    step = after(lines, "step")
    assert [line.split()[0] for line in step] == ["cuMemcpyHtoDAsync_v2"] * 9
    assert found == [79, 0.5]
    asked = [line for line in after(lines, "many") if line.startswith("cuEventQuery")]
    assert 0 < len(asked) <= 4  # 20 MiB through a ring of 16: only its own oldest copies


@recorded
def test_clusters_go_through_cuda_bindings_on_the_same_stream(tmp_path):
    text = """//@ launch gelu_forward grid=64 block=96 shared=60000 cluster=16
extern "C" __global__ void gelu_forward(F* out, int C, const F* inp) {}
"""
    _, lines = passed(f"""
        device = devices.open("cuda")
        device.allocate(16)
        call = loaded(device, {text!r}).bind(dict(out=0x1000, inp=0x2000), {{}})
        import gc; gc.collect()
        call()
        device.replay([call])()
        """, tmp_path, "layout=8,4,8")
    launch = next(line for line in lines if line.startswith("cuLaunchKernelEx"))
    stream = next(line for line in lines if "cuMemsetD8" in line).split("stream=")[1]
    args = struct.pack("<QiQ", 0x1000, 100, 0x2000).hex()
    assert launch == ("cuLaunchKernelEx gelu_forward grid=64,1,1 block=96,1,1 shared=60000 "
                      f"stream={stream} attribute=4:16,1,1 args={args}")
    assert f"node {launch}" in lines
    assert [line for line in lines if line.startswith("cuModuleLoad")] == [
        "cuModuleLoadDataEx first=6d", "cuModuleLoadData first=6d"]  # "machine code", both times
    assert "cuFuncSetAttribute gelu_forward 14 1" in lines  # more than eight blocks: not portable


@recorded
def test_prepare_compiles_each_machine_code_once(tmp_path):
    passed("""
        device = devices.open("cuda")
        compiled, file = [], version(GELU)
        def counted(version, precision, values, architecture):
            compiled.append((version.name, precision.name, values, architecture))
            raise devices.DeviceError("does not compile")
        cuda_code.cubin = counted
        device.prepare([(file, dict(N=n, C=8), dict(block=b)) for n in (1, 2) for b in (64, 128)])
        compiled.sort(key=lambda found: found[2]["block"])
        assert compiled == [("gelu_forward_01", "float32", {"block": block}, "sm_90a")
                            for block in (64, 128)], compiled
        """, tmp_path)


@recorded
def test_vendor_version_is_planned_cleared_and_called(tmp_path):
    text = """#@ needs C % 4 == 0
def candidates(axes, device):
    return [{}, {"algorithm": axes["C"]}]
class Plan:
    scratch = {"workspace": ("float32", (7,), True)}
    def __init__(self, device, parameters):
        self.device, self.parameters = device, parameters
    def bind(self, addresses, consts):
        return lambda: self.device.driver.memset_d8_async(
            addresses["out"], self.parameters["algorithm"], 5, self.device.stream)
def plan(axes, parameters, device):
    return Plan(device, parameters)
"""
    found, lines = passed(f"""
        import json
        device = devices.open("cuda")
        memory = device.allocate(256)
        file = version({text!r}, "py")
        found = device.configurations(file, contract.of("gelu_forward"), dict(N=3, C=100))
        kernel = loaded(device, {text!r}, parameters=dict(algorithm=9), suffix="py")
        mark("call")
        kernel.bind(dict(out=memory, inp=memory, workspace=memory + 64), {{}})()
        mark("end")
        try:
            loaded(device, {text!r}, dict(N=1, C=3), suffix="py")
        except devices.NotApplicable as error:
            print(json.dumps([found, list(device.recent), str(error)]))
        """, tmp_path)
    assert [line.split()[1] for line in after(lines, "call")] == ["bytes=28", "bytes=5"]
    assert found[0] == [{}, {"algorithm": 100}]
    assert found[1][-2:] == ["gelu_forward_01 clears workspace",
                             "gelu_forward_01 (vendor library)"]
    assert "needs C % 4 == 0" in found[2]


@recorded
@pytest.mark.skipif(not build.has_pycuda(), reason="PyCUDA is not installed: its stand-in is used")
def test_stand_in_asks_the_driver_for_what_pycuda_asks_for(tmp_path):
    body = """
        device = devices.open("cuda", precision="bfloat16")
        memory = device.allocate(4096)
        text = GELU.replace("//@ block", "//@ dtype F=bfloat16\\n//@ shared 60000\\n//@ block")
        call = loaded(device, text, parameters={"block": 128}).bind(
            {"out": 0x1000, "inp": 0x2000}, {})
        call()
        device.write(memory, np.arange(5, dtype=np.int32))
        device.write(memory, np.zeros(1 << 20, np.float32)[:1024])
        device.replay([call])()
        device.read(memory, (7,), "uint32")
        device.elapsed(call, 2)
        device.properties, device.identity, device.available()
        device.free(memory)
        """
    records = []
    for stand_in in (False, True):
        code, _, errors, lines = run(body, tmp_path, stand_in=stand_in)
        assert code == 0 and not errors, errors
        at_the_end = re.compile("cu(EventDestroy|ModuleUnload|CtxP)")  # freed by PyCUDA's objects
        text = "\n".join(line for line in lines if not at_the_end.match(line))
        records.append(re.sub("stream=[0-9a-f]+", "", text))
    assert records[0] == records[1]
