"""What only a GPU shows of the bench: its clock against the host's, its cache, what stays in that.

See checks/scenarios.py. Run for mutants that need a GPU; the shape is large enough for both clocks.
"""

import time

from checks.scenarios_bench import Facts

AXES = {"N": 1 << 16, "C": 3072}  # 0.4 GB a tensor: half a millisecond a call on an H200
CALLS = 20


def clock_and_cache() -> Facts:
    """Whether the device's clock sees what it times, how large its cache is said to be, and how
    many bytes a stream tells it to keep."""
    from cuda.bindings import driver

    from ported import contract, device, source

    machine = device.open("cuda", precision="bfloat16")
    version, of = source.read_all(language="cu")["gelu_forward_01"], contract.of("gelu_forward")
    kernel = machine.load(version, of, AXES, version.configurations()[0])
    call = kernel.bind({t.name: machine.allocate(2 * AXES["N"] * AXES["C"]) for t in of.tensors},
                       {})
    call()
    machine.driver.Context.synchronize()  # every stream, whichever was launched on
    begin = time.perf_counter()
    told = sum(machine.elapsed(call, CALLS)) / 1e3
    machine.driver.Context.synchronize()
    seen = time.perf_counter() - begin
    fault, value = driver.cuStreamGetAttribute(
        machine.stream.handle, driver.CUstreamAttrID.CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW)
    return {"clock": "all of the time" if told > seen / 2 else "a part of the time",
            "cache": f"{machine.properties['level2']} bytes",
            "kept": str(fault or value.accessPolicyWindow.num_bytes)}


SCENARIOS = {"bench on cuda clock and cache": clock_and_cache}
