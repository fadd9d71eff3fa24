"""Whether what a bench on a processor has timed was work: asked of the very calls that were timed.

Other contents are put into the timed buffers and the outputs are spoilt; then each call is made
once, as it was when timed. A result that stands there from an earlier call, is remembered by
address, is written by a thread behind the call's back, or was made in the set-up, is found so.
"""

import time
from dataclasses import dataclass

import numpy as np

from ported.contract import Contract
from ported.source import Version

PAUSE = 0.02  # seconds in which a thread that was left behind would write
DRAWN = ("F", "R", "P", "G")  # roles whose contents are random numbers
CHANCE = 1e-3  # by which lengths may differ where a version does not claim to repeat its bits


@dataclass
class Timed:
    """A version in one configuration, its timed calls and, for each, (arrays, scratch). `expected`:
    what a call on other memory made of `others`, contents that are never timed, before any was."""

    version: Version
    parameters: dict
    calls: list
    memory: list
    others: dict
    expected: dict


def prepared(version: Version, parameters: dict, contract: Contract, axes, inputs: dict,
             others: dict, machine) -> Timed:
    """A version's calls, ready to be timed on `inputs`."""
    from checks import bench

    alone: list = []
    call, = bench.our_calls(version, parameters, contract, axes, others, machine, alone, count=1)
    fill(contract, alone[0][0], others)
    call()
    expected = {tensor.name: alone[0][0][tensor.name] for tensor in contract.outputs}
    memory: list = []
    calls = bench.our_calls(version, parameters, contract, axes, inputs, machine, memory)
    return Timed(version, parameters, calls, memory, others, expected)


def fill(contract: Contract, arrays: dict, inputs: dict) -> None:
    """Contents of one copy: inputs and what is updated as drawn, sums zero, all else spoilt."""
    for tensor in contract.tensors:
        start = {"out": np.nan, "sum": 0}.get(tensor.access)
        arrays[tensor.name][...] = inputs[tensor.name] if start is None else start


def alike(version: Version, found: np.ndarray, expected: np.ndarray) -> bool:
    """The same bits, or lengths, where the version does not claim more."""
    if "deterministic" in version.claims:
        return found.tobytes() == expected.tobytes()
    lengths = [float(np.linalg.norm(a.astype(np.float64))) for a in (found, expected)]
    return abs(lengths[0] - lengths[1]) <= CHANCE * lengths[1]


def fault(timed: Timed, contract: Contract, inputs: dict) -> str:
    """Why a timing does not count; empty where it does. `inputs`: what it was timed on."""
    read = [t.name for t in contract.inputs if t.access == "in"]
    for arrays, _ in timed.memory:
        if any(arrays[name].tobytes() != inputs[name].tobytes() for name in read):
            return "it was timed on other contents than those drawn, or changes its inputs"
    if not all(np.any(inputs[name]) for name in read if contract.by_name[name].role in DRAWN):
        return "it was timed on zeros"
    if not all(np.isfinite(value).all() for value in timed.expected.values()):
        return "it leaves numbers that are not finite"
    others, expected = timed.others, timed.expected
    for arrays, _ in timed.memory:
        fill(contract, arrays, others)
    begin = time.perf_counter()
    for call in timed.calls:
        call()
    last = timed.memory[-1][0]
    at_once = {name: last[name].copy() for name in expected}
    time.sleep(max(PAUSE, 4 * (time.perf_counter() - begin)))
    late = [name for name, value in at_once.items() if last[name].tobytes() != value.tobytes()]
    if late:
        return f"{late[0]} is written after the call has returned"
    for arrays, _ in timed.memory:
        wrong = [name for name, value in expected.items()
                 if not alike(timed.version, arrays[name], value)]
        if wrong:
            return f"{wrong[0]} when timed differs from that of a call on other memory"
    return ""
