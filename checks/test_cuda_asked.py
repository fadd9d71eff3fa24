"""What the cuda device asks of the driver: clock, copies, scratch, graphs. On the recording driver
kernels take a millisecond of their stream's time, and with `late=1` copies and memsets are done
when they are waited for."""

import pytest

from checks.fake_driver.record import after, passed, recorded

LATE = "late=1"
CALL = """
    import json
    device = devices.open("cuda")
    memory = device.allocate(4096)
    call = loaded(device, GELU, parameters={"block": 128}).bind({"out": memory, "inp": memory}, {})
"""


@recorded
def test_the_clock_sees_what_is_launched_and_nothing_else(tmp_path):
    found, _ = passed(CALL + """
    call()
    other = device.driver.Stream()
    facts = [device.elapsed(call, 3), device.elapsed(device.replay([call] * 5), 2)]
    device.write(memory, np.ones(4, np.float32))
    facts += [device.elapsed(lambda: None), device.elapsed(call)]
    print(json.dumps(facts))
    """, tmp_path)
    assert found == [[1.0] * 3, [5.0] * 2, [0.0], [1.0]]


@recorded
def test_numbers_of_the_card_are_those_that_the_driver_gives(tmp_path):
    """Each is another number here, so that none stands in another's place."""
    found, _ = passed("""
        import json
        print(json.dumps(devices.open("cuda").properties))
        """, tmp_path)
    assert found == {"level2": 50 << 20, "clock": 1980000, "memory_clock": 3201000,
                     "bus_bits": 6144, "registers": 65536, "threads": 2048,
                     "multiprocessors": 132, "shared_limit": 232448, "memory": 141 << 30}


@recorded
def test_the_driver_is_asked_for_nothing_but_this(tmp_path):
    """Nothing that makes the clock run otherwise: no cache policy, no priority, no limit."""
    _, lines = passed(CALL + """
    call()
    device.write(memory, np.ones(4, np.float32))
    device.elapsed(device.replay([call, call]))
    device.read(memory, (4,), "float32")
    mark("end")
    """, tmp_path)
    names = {line.removeprefix("captured ").removeprefix("node ").split()[0]
             for line in lines[:lines.index("-- end")]}
    opens = {"cuInit", "cuDevicePrimaryCtxRetain", "cuCtxPushCurrent_v2", "cuStreamCreate",
             "cuMemAlloc_v2", "cuModuleLoadDataEx", "cuModuleGetFunction"}
    works = {"cuLaunchKernel", "cuMemsetD8Async", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2",
             "cuEventCreate", "cuEventRecord", "cuStreamQuery"}
    graphs = {"cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags",
              "cuGraphUpload", "cuGraphDestroy", "cuGraphLaunch", "cuGraphExecDestroy"}
    ends = {name for name in names if name.startswith("cuEventDestroy")}  # PyCUDA's objects
    assert names == opens | works | graphs | ends


@recorded
@pytest.mark.parametrize("made, expected", [
    ("loaded(device, KERNELS['many'], parameters={'R': 2})",
     ["cuMemsetD8Async bytes=400", "cuMemsetD8Async bytes=36", "cuLaunchKernel first",
      "cuLaunchKernel gelu_forward"]),
    ("loaded(device, KERNELS['plan'], suffix='py')",
     ["cuMemsetD8Async bytes=28", "cuMemsetD8Async bytes=5"])], ids=["launches", "a library's"])
def test_scratch_is_cleared_before_every_call_of_it(tmp_path, made, expected):
    _, lines = passed(f"""
    from checks.scenarios_device import KERNELS
    device = devices.open("cuda")
    names = dict(out=0, inp=0, part=device.allocate(4096), room=device.allocate(4096))
    call = {made}.bind(names, {{}})
    graph = device.replay([call])
    for name in ("first", "second"):
        mark(name)
        call()
    for name in ("graph", "graph again"):
        mark(name)
        graph()
    mark("end")
    """, tmp_path)
    for name in ("first", "second", "graph", "graph again"):
        found = [line.removeprefix("node ") for line in after(lines, name)
                 if not line.startswith("cuGraph")]
        assert [" ".join(line.split()[:2]) for line in found] == expected, name


@recorded
@pytest.mark.parametrize("static, asked", [
    (0, []), (800, ["cuFuncSetAttribute gelu_forward 8 48400"])])
def test_static_shared_memory_counts(tmp_path, static, asked):
    """48400 bytes fit the 48 KiB that nobody has to ask for where nothing else is in them."""
    _, lines = passed("""
    from checks.scenarios_device import KERNELS
    loaded(devices.open("cuda"), KERNELS["large"], dict(N=1, C=12100))
    """, tmp_path, f"static={static}")
    assert [line for line in lines if line.startswith("cuFuncSet")] == asked


@recorded
def test_a_capture_that_breaks_without_an_error_names_its_call(tmp_path):
    """As a library does that waits, and goes on where it may not."""
    found, _ = passed(CALL + """
    def waits():
        try:
            device.driver.Context.synchronize()
        except device.driver.Error:
            pass
    try:
        device.replay([call, waits, call])
    except devices.DeviceError as error:
        print(json.dumps(str(error)))
    """, tmp_path)
    assert found.startswith("cuda: call 1 (gelu_forward_01 gelu_forward (3 blocks of 128 threads)")
    assert "waits, allocates or uses another stream" in found


@recorded
def test_late_work_is_late(tmp_path):
    """The recording driver itself: a copy takes what its source holds when it is waited for."""
    found, _ = passed(CALL + """
    source, driver = np.arange(4, dtype=np.int32), device.driver
    event = driver.Event()
    driver.memcpy_htod_async(memory, source, device.stream)
    event.record(device.stream)
    source[0] = 7
    driver.memset_d8_async(memory + 12, 1, 4, device.stream)
    place = ctypes.cast(memory, ctypes.POINTER(ctypes.c_int))
    facts = [place[:4]]
    event.query()
    facts += [place[:4]]
    device.stream.is_done()
    print(json.dumps(facts + [place[:4]]))
    """, tmp_path, LATE)
    assert found == [[-1] * 4, [7, 1, 2, 3], [7, 1, 2, 0x01010101]]  # not even zeroed at first


@recorded
@pytest.mark.parametrize("settings", ["", LATE], ids=["at once", "late"])
def test_what_is_written_arrives_however_late(tmp_path, settings):
    found, lines = passed("""
        import json
        device, rng = devices.open("cuda"), np.random.default_rng(0)
        memory = device.allocate(64 << 20)
        expected = np.zeros(16 << 20, np.int32)
        for size in (1, 15, 17, 1000, 5 << 19, *rng.integers(1, 1 << 19, 60)):
            begin = int(rng.integers(0, expected.size - size))
            array = rng.integers(0, 1 << 30, size, dtype=np.int32)
            expected[begin:begin + size] = array
            device.write(memory + 4 * begin, array)
            array[:] = -1
        found = device.read(memory, expected.shape, "int32")
        kept = device.read(memory, (1000,), "int32")
        device.write(memory, np.zeros(1000, np.int32))
        device.fill(memory + 8, 8, 0xFF)
        print(json.dumps([bool((found == expected).all()), bool((kept == expected[:1000]).all()),
                          device.read(memory, (6,), "int32").tolist()]))
        """, tmp_path, settings)
    assert found == [True, True, [0, 0, -1, -1, 0, 0]]
    assert sum(line.startswith("cuMemcpyHtoDAsync") for line in lines) > 64


@recorded
def test_a_graph_does_its_writes_in_its_place(tmp_path):
    """Copies and memsets of a replayed graph, behind writes that are not yet done."""
    found, lines = passed(CALL + """
    from functools import partial
    graph = device.replay([call, partial(device.fill, memory + 4, 4, 1)])
    mark("work")
    device.write(memory, np.arange(3, dtype=np.int32))
    graph()
    device.write(memory + 8, np.full(1, 9, np.int32))
    print(json.dumps(device.read(memory, (3,), "int32").tolist()))
    """, tmp_path, LATE)
    assert found == [0, 0x01010101, 9]
    assert not any(line.startswith("cuMemset") for line in after(lines, "work"))
