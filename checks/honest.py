"""Honest float32 results of every operation, and cases to try them on: what the gate must accept.

`Ordered` runs an explicit function in float32 and adds up its sums in a chosen order, so that every
operation has honest variants without a line of its own. `OTHER_WAYS` are other algorithms for the
same result. `calibrate` finds the slack that all of them need; its figures lie in
golden/gate_calibration.json. The wrong variants beside them are what it must leave no room for.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from checks import cases, gate, known, measuring, rounding
from checks.launch import Stage
from ported import source
from ported.contract import Contract

ORDERS = ("sequential", "reversed", "lanes", "blocks", "pairwise", "fused")


def _sequential(terms: np.ndarray) -> np.ndarray:
    return np.add.accumulate(terms, -1, dtype=terms.dtype)[..., -1]


def _padded(terms: np.ndarray, multiple: int) -> np.ndarray:
    missing = -terms.shape[-1] % multiple
    return np.concatenate([terms, np.zeros((*terms.shape[:-1], missing), terms.dtype)], -1)


def _pairwise(terms: np.ndarray) -> np.ndarray:
    while terms.shape[-1] > 1:
        terms = _padded(terms, 2)
        terms = terms[..., ::2] + terms[..., 1::2]
    return terms[..., 0]


def _lanes(terms: np.ndarray) -> np.ndarray:
    lanes = _padded(terms, 16).reshape(*terms.shape[:-1], -1, 16)
    return _pairwise(_sequential(np.moveaxis(lanes, -2, -1)))


def _blocks(terms: np.ndarray) -> np.ndarray:
    return _sequential(_sequential(_padded(terms, 64).reshape(*terms.shape[:-1], -1, 64)))


def _fused(terms: np.ndarray) -> np.ndarray:
    total = np.zeros(terms.shape[:-1], np.float32)
    for k in range(terms.shape[-1]):
        total = (total + terms[..., k].astype(np.float64)).astype(np.float32)
    return total


SUMS = {"sequential": _sequential, "lanes": _lanes, "blocks": _blocks, "pairwise": _pairwise,
        "fused": _fused, "reversed": lambda terms: _sequential(terms[..., ::-1])}


class Ordered(rounding._Mode):
    """An explicit function in float32, its sums in one order; `fused` rounds no products."""

    def __init__(self, order: str):
        super().__init__()
        self.order = order

    def move(self, func, name, args, kwargs):
        return func(*args, **kwargs)

    def elementwise(self, func, name, args, kwargs, weight):
        return func(*args, **kwargs)

    def _add(self, terms: torch.Tensor) -> torch.Tensor:
        with np.errstate(all="ignore"):
            total = SUMS[self.order](terms.numpy())
        return torch.from_numpy(np.ascontiguousarray(total))

    def sum(self, func, name, args, kwargs):
        if name in ("mm", "bmm"):
            a, b = (t.double() if self.order == "fused" else t for t in args)
            return self._add(a[..., :, None, :] * b.mT[..., None, :, :])
        if name.startswith("index_add"):
            target = args[0].numpy() if name.endswith("_") else args[0].numpy().copy()
            np.add.at(target, args[2].numpy(), args[3].numpy())
            return args[0] if name.endswith("_") else torch.from_numpy(target)
        x, dims, keep = (*args, None, False)[:3] if len(args) < 3 else args[:3]
        keep = kwargs.get("keepdim", keep) if len(args) < 3 else keep
        dims = range(x.ndim) if dims in (None, False, []) else [d % x.ndim for d in dims]
        rest = [d for d in range(x.ndim) if d not in dims]
        kept = [1 if d in dims else n for d, n in enumerate(x.shape) if keep or d not in dims]
        terms = x.permute(*rest, *dims).reshape(*(x.shape[d] for d in rest), -1)
        total = self._add(terms.contiguous()).reshape(kept)
        return total / np.float32(terms.shape[-1]) if name == "mean" else total


def result(contract: Contract, inputs: Mapping, order: str) -> dict[str, np.ndarray]:
    """Every output of the explicit function in float32, its sums added up in `order`."""
    arguments = measuring.single(measuring.tensors_of(contract, inputs))
    found = measuring.explicit(contract, arguments, Ordered(order))
    return {name: value.numpy() for name, value in found.items()}


def variants(contract: Contract, case: cases.Case, device=None) -> Iterator[tuple[str, dict]]:
    """Honest results of one case by variant: each order, and each version on `device`."""
    inputs = known.of(case, contract).inputs
    with np.errstate(all="ignore"):
        for order in ORDERS:
            yield order, result(contract, inputs, order)
    if device is None:
        return
    for name, version in source.read_all().items():
        integers = {**case.sizes, "threads": device.threads}
        for parameters in version.configurations()[:1]:
            if version.contract_name == contract.name and not version.unmet_needs(
                    {**integers, **parameters}):
                stage = Stage(device, version, contract, case.sizes, parameters)
                yield name, stage.run(inputs).outputs


def needed(truth: gate.Truth, name: str, got: np.ndarray) -> float:
    """The smallest slack with which rule 2 accepts `got`."""
    value, scale = truth.value[name], truth.scale[name]
    with np.errstate(all="ignore"):
        over = np.abs(got - value) - rounding.UNIT * np.abs(value) - rounding.TINY / 2
        ratio = np.where(scale > 0, over / np.maximum(scale, gate.EPSILON),
                         np.where(over > 0, np.inf, 0))
    judged = np.isfinite(value) & np.isfinite(got) & np.isfinite(scale)
    return float(np.max(ratio, where=judged, initial=0.0))
