"""The small kernels of our own that stand beside a library's products, on the emulated device."""

import numpy as np
import pytest

from ported import device as devices
from ported.binding import product
from ported.device import own_parts, vendor
from ported.precision import decode, encode


def added(device, path, contract, sizes, given) -> np.ndarray:
    """What a part adds to `dbias`, which starts as 1, 2, 3, .."""
    part = vendor.kernel(path, contract, sizes, device)
    start = np.arange(1, sizes["O"] + 1, dtype=np.float32)
    addresses = {name: device.allocate(4 * product(shape))
                 for name, (_, shape, _) in part.scratch.items()}
    for name, array in {"dbias": start, **given}.items():
        addresses[name] = device.allocate(array.nbytes)
        device.write(addresses[name], array)
    part.bind(addresses, {})()
    device.synchronize()
    return device.read(addresses["dbias"], start.shape, "float32") - start


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows, columns", [(1, 8), (37, 72), (300, 200)])
def test_bias_gradient(precision, rows, columns):
    device = devices.open("emulated", precision=precision)
    sizes, random = {"N": rows, "O": columns}, np.random.default_rng(1)
    dout = encode(random.normal(size=(rows, columns)), device.precision.dtypes["F"])
    found = added(device, "linear/parts/bias_gradient.cu", own_parts.BIAS_GRADIENT, sizes,
                  {"dout": dout})
    sums = decode(dout, device.precision.dtypes["F"]).astype(float).sum(0)
    np.testing.assert_allclose(found, sums, rtol=0, atol=5e-5)
    again = added(device, "linear/parts/bias_add.cu", own_parts.BIAS_ADD, sizes,
                  {"row_sums": sums.astype(np.float32)})
    np.testing.assert_allclose(again, sums, rtol=0, atol=5e-5)
