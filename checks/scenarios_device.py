"""What the cuda device asks of the driver: its scenarios, on the recording driver.

See checks/scenarios.py and checks/fake_driver/. Memory is the host's there, kernels do nothing but
take a millisecond of their stream's time, and what is put on a stream happens as late as CUDA
allows. Each scenario's facts are what its script prints and the work that the driver was asked for,
line by line; not how often it was asked whether that is done.
"""

import json
import re
import tempfile
from functools import partial
from pathlib import Path

from checks.scenarios_bench import Facts

CLOCK = """
    import json
    device = devices.open("cuda")
    call = loaded(device, GELU, parameters={"block": 128}).bind({"out": 0x1000, "inp": 0x2000}, {})
    facts = {"calls": device.elapsed(call, 3),
             "rotations of four": device.elapsed(device.replay([call] * 4), 2)}
    call(), call()
    facts["after others"] = device.elapsed(call)
    print(json.dumps({**facts, **device.properties}))
    """
DATA = """
    import json
    device = devices.open("cuda")
    facts, many = {}, 5 << 18  # numbers: 5 MiB, more than a segment
    memory = device.allocate(4 * many)
    facts["at first"] = device.read(memory, (many,), "int32").any()
    for size in (1, 7, 64, 1000, many):
        array = np.arange(size, dtype=np.int32)
        device.write(memory, array)
        array[:] = -1  # the caller's again
        device.write(memory + 4 * (size // 2), np.full(1, -2, np.int32))
        facts[f"{size} numbers"] = device.read(memory, (size,), "int32").sum(dtype=np.int64)
    places = [device.allocate(4 << 18) for _ in range(24)]  # 24 MiB: more than a ring
    for k, place in enumerate(places):
        device.write(place, np.full(1 << 18, k, np.int32))
    for k, place in enumerate(places):
        found = device.read(place, (1 << 18,), "int32")
        facts[f"place {k}"] = f"{found[0]} {found[-1]}"
    device.write(memory, np.arange(many, dtype=np.int32).reshape(2, -1).T)
    device.fill(memory + 4, 6, 3)
    facts["turned, filled"] = device.read(memory, (8,), "int32").tolist()
    device.write(memory, np.arange(5, dtype=np.uint16))
    facts["bfloat16"] = device.read(memory, (5,), "bfloat16").tolist()
    print(json.dumps(facts, default=str))
    """
KERNELS = {
    "many": """//@ scratch part F32["C"] zeroed
//@ scratch room I32["N 3"] zeroed
//@ tune R 2
//@ launch first grid=N*R block=96 shared=C*4
//@ launch gelu_forward grid=ceil_div(C,64) block=64
__global__ void first(float* part, int R, long C) {}
extern "C" __global__ void gelu_forward(F* out, const F* inp, const float* part, int* room,
                                        int N) {}
""",
    "large": """//@ launch gelu_forward grid=N block=64 shared=C*4
extern "C" __global__ void gelu_forward(F* out, const F* inp) {}
""",
    "plan": """def candidates(axes, device):
    return [{}]
class Plan:
    scratch = {"part": ("float32", (7,), True)}
    def __init__(self, device):
        self.device = device
    def bind(self, addresses, consts):
        fill, stream = self.device.driver.memset_d8_async, self.device.stream
        return lambda: fill(addresses["part"], 1, 5, stream)
def plan(axes, parameters, device):
    return Plan(device)
""",
    "clusters": """//@ launch gelu_forward grid=64 block=96 shared=60000 cluster=16
extern "C" __global__ void gelu_forward(F* out, int C, const F* inp) {}
"""}
LAUNCHES = """
    from checks.scenarios_device import KERNELS
    device = devices.open("cuda")
    names = dict(out=0x1000, inp=0x2000, part=device.allocate(4096), room=device.allocate(4096))
    sizes = [("many", 100), ("large", 12100), ("large", 20000), ("large", 15000), ("clusters", 100)]
    kernels = [loaded(device, KERNELS[name], dict(N=3, C=size), dict(R=2)) for name, size in sizes]
    kernels.append(loaded(device, KERNELS["plan"], suffix="py"))
    calls = [kernel.bind(names, {}) for kernel in kernels]
    mark("bound")
    for call in [*calls, device.replay(calls), device.replay([])]:
        call()
    device.synchronize()
    """
FAULTS = """
    import json
    from checks.scenarios_device import KERNELS
    def said(what, *given):
        try:
            return repr(what(*given))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    device, facts = devices.open("cuda", limit=0.05), {}
    memory = device.allocate(64)
    call = loaded(device, GELU, parameters={"block": 128}).bind({"out": 1, "inp": 2}, {})
    facts["too large a block"] = said(loaded, device, GELU, None, {"block": 2048})
    facts["too much shared"] = said(loaded, device, KERNELS["large"], {"N": 1, "C": 60000})
    facts["too much memory"] = said(device.allocate, 1 << 40)
    facts["waits in a graph"] = said(device.replay, [call, device.synchronize])
    def unseen():
        try:
            device.driver.Context.synchronize()
        except device.driver.Error:
            pass
    facts["waits unseen"] = said(device.replay, [call, unseen, call])
    facts["the stream works again"] = said(device.read, memory, (2,), "int32")
    for call_of_the_driver, code in (("cuLaunchKernel", 701), ("cuMemsetD8Async", 1)):
        os.environ["FAKE_DRIVER"] = f"{call_of_the_driver}={code}"
        facts[f"{call_of_the_driver} fails"] = said(call), said(device.fill, memory, 8)
    facts["a graph of that"] = said(device.replay, [call, lambda: device.fill(memory, 8)])
    os.environ["FAKE_DRIVER"] = "cuStreamQuery=600"
    facts["hangs"] = said(device.synchronize)
    facts["after that"] = said(device.read, memory, (2,), "int32")
    device.card.hung = False
    print(json.dumps(facts))
    """
ASKED = re.compile(r"(node |captured )?cu(Launch|Memset|Memcpy|FuncSet|StreamSet|CtxSet|"
                   r"GraphLaunch)")


def recorded(body: str, settings: str = "") -> Facts:
    """The facts of a script on the recording driver."""
    from checks.fake_driver.record import run

    with tempfile.TemporaryDirectory() as folder:
        code, out, errors, lines = run(body, Path(folder), settings)
    facts = {"ends": f"code {code}: {errors.replace(folder, '')[-200:]}"}
    told = json.loads(out.splitlines()[-1]) if out and not code else {}
    facts |= {f"said: {name}": str(value).replace(folder, "") for name, value in told.items()}
    asked = filter(ASKED.match, lines)
    return facts | {f"asked {k}": line for k, line in enumerate(asked)}


SCENARIOS = {f"device {name}": partial(recorded, body, settings) for name, body, settings in (
    ("clock", CLOCK, ""), ("data", DATA, "late=1"), ("faults", FAULTS, ""),
    ("launches", LAUNCHES, "layout=8,4,8 static=800"))}
