"""Honest float32 results of every operation, and cases to try them on: what the gate must accept.

`Ordered` runs an explicit function in float32 and adds up its sums in a chosen order, so that every
operation has honest variants without a line of its own. `OTHER_WAYS` are other algorithms for the
same result. `calibrate` finds the slack that all of them need; its figures lie in
golden/gate_calibration.json. The wrong variants beside them are what it must leave no room for.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from checks import gate, rounding
from ported import contract as contracts
from ported.contract import Contract

ORDERS = ("sequential", "reversed", "lanes", "blocks", "pairwise", "fused")
FAMILIES = ("randn", "mean 1000", "tiny", "huge", "outlier", "constant rows", "one-hot", "sorted",
            "unlike rows", "offset 1e4", "all equal")


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
    arguments = {name: value.float() if rounding._floating(value) else value
                 for name, value in gate.tensors_of(contract, inputs).items()}
    found = gate.explicit(contract, arguments, Ordered(order))
    return {name: value.numpy() for name, value in found.items()}


def _values(random, shape, family: str) -> np.ndarray:
    """Float32 values of a family; rows lie along the last axis."""
    x = random.standard_normal(shape)
    rows = x.reshape(-1, shape[-1]) if shape else x.reshape(1, 1)
    n, c = rows.shape
    if family == "outlier":
        rows[np.arange(n), random.integers(c, size=n)] *= 1e4
    elif family == "constant rows":
        rows[:] = 30 * random.standard_normal((n, 1))
    elif family == "one-hot":
        rows[:] = np.eye(c)[random.integers(c, size=n)]
    elif family == "sorted":
        rows.sort(1)
    elif family == "unlike rows":
        rows *= np.exp(random.uniform(-12, 8, (n, 1)))
    elif family == "all equal":
        rows[:] = random.standard_normal()
    x = rows.reshape(shape)
    factor, offset = {"mean 1000": (1, 1000), "tiny": (1e-18, 0), "huge": (1e12, 0),
                      "offset 1e4": (1, 1e4)}.get(family, (1, 0))
    return (x * factor + offset).astype(np.float32)


def _drawn(contract: Contract, axes: Mapping, family: str, random) -> dict:
    """Arguments of a direction that needs nothing saved."""
    made: dict = {}
    for tensor in contract.inputs:
        shape = tensor.shape(axes)
        limit = axes["V"] if tensor.name == "targets" else axes["Vp"]
        if tensor.role == "I32":
            drawn = random.integers(1, limit, shape)
            made[tensor.name] = np.asarray(drawn, np.int32)
        else:
            kind = family if tensor.name not in ("weight", "bias", "lr") else "randn"
            made[tensor.name] = _values(random, shape, kind)
        if tensor.name in ("v", "lr", "scale", "dscale"):
            made[tensor.name] = np.abs(made[tensor.name])
        if tensor.name == "decay":
            made[tensor.name] = np.asarray(random.integers(0, 2, shape), np.float32)
    return {**made, **{a: axes[a] for a in contract.axis_arguments}, **contract.consts}


def case(contract: Contract, axes: Mapping[str, int], family: str, seed: int) -> dict:
    """Inputs of one case by name; saved tensors are those of a forward pass, rounded."""
    random = np.random.default_rng([seed, FAMILIES.index(family)])
    known = contracts.read(contracts.ROOT / "reference/explicit" / f"{contract.operation}.py")
    forward = known.get(f"{contract.operation}_forward")
    if contract.direction != "backward" or forward is None:
        return _drawn(contract, axes, family, random)
    made = _drawn(forward, axes, family, random)
    outputs = gate.explicit(forward, gate.tensors_of(forward, made))
    made |= {name: value.numpy().astype(np.float32) for name, value in outputs.items()}
    made |= {a: axes[a] for a in contract.axis_arguments}
    gradients = {t.name: _values(random, t.shape(axes), "randn") for t in contract.inputs
                 if t.name not in made}
    wanted = {t.name for t in contract.inputs} | set(contract.axis_arguments)
    return {name: value for name, value in {**made, **gradients}.items() if name in wanted}


def needed(truth: gate.Truth, name: str, got: np.ndarray) -> float:
    """The smallest slack with which rule 2 accepts `got`."""
    value, scale = truth.value[name], truth.scale[name]
    with np.errstate(all="ignore"):
        over = np.abs(got - value) - rounding.UNIT * np.abs(value) - rounding.TINY
        ratio = np.where(scale > 0, over / np.maximum(scale, gate.EPSILON), np.where(over > 0, np.inf, 0))
    judged = np.isfinite(value) & np.isfinite(got) & np.isfinite(scale)
    return float(np.max(ratio, where=judged, initial=0.0))


__all__ = ["FAMILIES", "ORDERS", "Iterator", "Ordered", "case", "needed", "result"]
