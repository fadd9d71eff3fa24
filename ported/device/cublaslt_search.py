"""Which of cuBLASLt's algorithms are fast here: each product alone, timed on the device.

The library orders its algorithms by a model of the card; the true order differs by some percent.
Trying every combination for a version of two products would square the work for nothing, since
they run one after the other.
"""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ported.directives import DTYPES

WARM, REPEATS = 3, 11
ALTERNATIVES = 3  # combinations of runners-up that are given besides the best
PATTERN = 0x3C  # as bytes: 0.0115 in bfloat16 and in float32


def combined(problems: Sequence, count: int) -> list[dict[str, int]]:
    """Parameters worth timing as a whole: the library's choice, then the best of each product
    alone, then its runners-up. Up to `count` algorithms a product are timed."""
    ranked = []
    for problem in problems:
        choices = problem.choices(count)
        with _buffers(problem) as addresses:
            times = [_time(problem, choice, addresses) for choice in choices]
        order = sorted(range(len(choices)), key=times.__getitem__)
        settings = [problem.settings(choice) for choice in choices]
        ranked.append((settings[0], [settings[i] for i in order if times[i] < float("inf")]))
    found = [_merged(own for own, _ in ranked)]
    for place in range(1 + ALTERNATIVES):
        one = _merged(best[min(place, len(best) - 1)] if best else own for own, best in ranked)
        found += [one] if one not in found else []
    return found


def _merged(settings) -> dict[str, int]:
    return {name: value for some in settings for name, value in some.items()}


@contextmanager
def _buffers(problem) -> Iterator[dict[str, int]]:
    """Memory for everything the product touches."""
    product, device = problem.product, problem.device
    sizes = {matrix.name: matrix.rows * matrix.columns
             * DTYPES[device.precision.dtypes[matrix.role]]
             for matrix in (product.out, product.left, product.right)}
    if product.vector:
        sizes[product.vector] = DTYPES["float32"] * max(product.out.shape)
    if product.aux:
        sizes[product.aux] = sizes[product.out.name]
    addresses = {name: device.allocate(nbytes) for name, nbytes in sizes.items()}
    for name, address in addresses.items():
        device.fill(address, sizes[name], PATTERN)
    try:
        yield addresses
    finally:
        for address in addresses.values():
            device.free(address)


def _time(problem, choice, addresses: dict[str, int]) -> float:
    """Milliseconds, the median; infinite where the library refuses after all."""
    device, part = problem.device, problem.part(choice)
    _, shape, _ = part.scratch["workspace"]
    scratch = device.allocate(DTYPES["float32"] * shape[0])
    try:
        call = part.bind({**addresses, "workspace": scratch}, {})
        device.elapsed(call, WARM)
        return statistics.median(device.elapsed(call, REPEATS))
    except problem.lt.cuBLASLtError:
        return float("inf")
    finally:
        device.free(scratch)
