"""Ceilings of a GPU in the run that quotes them: a device copy, and a large matrix product.

The contents are random: what a product costs in power, and so its clock, depends on them.
"""

from collections.abc import Mapping

import numpy as np

from ported import contract, source
from ported.bench import Ceilings
from ported.binding import product
from ported.device import DeviceError, NotApplicable
from ported.device.cuda_errors import DeviceGone
from ported.precision import encode
from ported.source import DTYPES

COPIED, COPIES = 1 << 30, 12  # bytes; copies on end
SIDE = 8192  # of the product
DRAWN = 1 << 21  # random elements on the host, repeated on the device
FEW = 4  # algorithms of a library that are tried


def ceilings(device) -> Ceilings:
    """Bytes a second, read and written, of a copy; operations a second of the fastest product;
    bytes a second of the memory's pins."""
    return Ceilings(2 * COPIED / copy_seconds(device), 2 * SIDE**3 / product_seconds(device),
                    pins(device.properties))


def pins(properties: Mapping[str, int]) -> float | None:
    """Bytes a second of a memory of so many bits, two a clock; None where the driver keeps its
    clock to itself."""
    return 2e3 * properties["memory_clock"] * properties["bus_bits"] / 8 or None


def copy_seconds(device, nbytes: int = COPIED) -> float:
    """The driver's copy of `nbytes` from one buffer to another: a dozen's average, the best of
    three."""
    source_, target = device.allocate(nbytes), device.allocate(nbytes)
    try:
        def copies() -> None:  # the clock's looks between them would count
            for _ in range(COPIES):
                device.driver.memcpy_dtod_async(target, source_, nbytes, device.stream)
        return min(device.elapsed(copies, 4)[1:]) * 1e-3 / COPIES
    finally:
        device.free(source_)
        device.free(target)


def product_seconds(device) -> float:
    """linear_forward at SIDE in every axis by the library's versions and the highest of ours that
    applies: the best of all."""
    of = contract.of("linear_forward")
    axes = {"N": SIDE, "C": SIDE, "O": SIDE}
    fit = [v for v in source.read_all(language="cu").values() if v.contract_name == of.name
           and v.supports(device.precision, of.roles)
           and not v.unmet_needs({**axes, **device.values, **v.configurations()[0]})]
    chosen = [*[v for v in fit if v.language == "cu"][-1:],
              *(v for v in fit if v.language == "py")]
    memory = {t.name: allocated(device, t, axes, seed)
              for seed, t in enumerate(of.tensors)}
    try:
        return min([second for version in chosen
                    for second in timed(device, version, of, axes, memory)], default=float("inf"))
    finally:
        for address in memory.values():
            device.free(address)


def timed(device, version, of, axes: Mapping[str, int], memory: Mapping[str, int]) -> list[float]:
    """Seconds of a few calls in each of a few configurations; none where the version's library is
    not here."""
    found = []
    try:
        for parameters in device.configurations(version, of, axes)[:FEW]:
            kernel = device.load(version, of, axes, parameters)
            scratch = {name: device.allocate(DTYPES[dtype] * product(shape))
                       for name, (dtype, shape, _) in kernel.scratch.items()}
            call = kernel.bind({**memory, **scratch}, {})
            device.elapsed(call, 2)
            found += [ms * 1e-3 for ms in device.elapsed(call, 8)]
            for address in scratch.values():
                device.free(address)
    except (DeviceError, NotApplicable) as error:
        if isinstance(error, DeviceGone):
            raise
    return found


def allocated(device, tensor, axes: Mapping[str, int], seed: int) -> int:
    """Device memory of a tensor, random normal: some drawn on the host, copied on over the rest."""
    dtype = device.precision.dtypes[tensor.role]
    size = product(tensor.shape(axes))
    drawn = np.random.default_rng(seed).standard_normal(min(size, DRAWN), np.float32)
    host = encode(drawn * np.float32(0.05), dtype)
    address, nbytes = device.allocate(DTYPES[dtype] * size), host.nbytes
    device.write(address, host)
    while nbytes < DTYPES[dtype] * size:
        more = min(nbytes, DTYPES[dtype] * size - nbytes)
        device.driver.memcpy_dtod_async(address + nbytes, address, more, device.stream)
        nbytes += more
    device.synchronize()
    return address
