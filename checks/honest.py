"""Honest results of every operation, and wrong ones: what the gate must accept and refuse.

`Ordered` runs an explicit function in float32 and adds up its sums in a chosen order, so that every
operation has honest variants without a line of its own; the kernels of ported/c_src are variants
too. In bfloat16 each order comes twice: with what lies between kept in float32, and stored rounded
where that is honest (storage.py). `Wrong` does the same with one fault in every sum or step.
`calibrate` finds the slack that all honest variants need; golden/gate_calibration.json holds what
it found. Its command:

    python -m checks.gate --calibrate --seeds 1000
    python -m checks.gate --calibrate --seeds 20 --dtype bfloat16
"""

import argparse
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from checks import at_random, cases, gate, known, measuring, steps, storage
from checks.launch import Stage
from ported import contract as contracts
from ported import precision as precisions
from ported import source
from ported.contract import ROOT, Contract
from ported.precision import FLOAT32, Precision, rounded

ORDERS = ("sequential", "reversed", "lanes", "blocks", "pairwise", "fused")
GOLDEN = ROOT / "golden" / "gate_calibration.json"


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


class Ordered(storage.Stored):
    """An explicit function in float32, its sums in one order; `fused` rounds no products. `marks`:
    the steps that are stored as bfloat16."""

    def __init__(self, order: str, marks: frozenset[int] = frozenset()):
        super().__init__(marks)
        self.order = order

    def _step(self, func, name, args, kwargs):
        return steps.Mode._step(self, func, name, args, kwargs)

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


def _rounded_to(bits: int):
    """Round to `bits` bits of significand: 8 is bfloat16, 11 is TF32."""
    def rounded(x: np.ndarray) -> np.ndarray:
        fraction, exponent = np.frexp(x)
        return np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits).astype(np.float32)
    return rounded


def _bfloat16_sum(terms: np.ndarray) -> np.ndarray:
    total, rounded = np.zeros(terms.shape[:-1], np.float32), _rounded_to(8)
    for k in range(terms.shape[-1]):
        total = rounded(total + terms[..., k])
    return total


class Wrong(Ordered):
    """The same with one fault: see FAULTS."""

    def __init__(self, fault: str):
        super().__init__("lanes")
        self.fault = fault

    def _add(self, terms: torch.Tensor) -> torch.Tensor:
        if self.fault == "dropped last term":
            terms = terms[..., :-1]
        if self.fault == "bfloat16 sums":
            return torch.from_numpy(np.asarray(_bfloat16_sum(terms.numpy())))
        return super()._add(terms)

    def sum(self, func, name, args, kwargs):
        if name in ("mm", "bmm") and self.fault in ("TF32 products", "bfloat16 products"):
            rounded = _rounded_to(11 if self.fault == "TF32 products" else 8)
            args = [torch.from_numpy(rounded(a.numpy())) for a in args]
        total = super().sum(func, name, args, kwargs)
        count = args[0].numel() // max(total.numel(), 1)
        return total * (count / (count - 1)) if name == "mean" and self.fault == "n - 1" else total

    def elementwise(self, func, name, args, kwargs, weight):
        found = func(*args, **kwargs)
        if self.fault == "crude exp" and name in ("exp", "tanh"):
            found = found * (1 + 1e-4 * torch.sin(1e3 * args[0]))
        return found


FAULTS = ("dropped last term", "bfloat16 sums", "TF32 products", "bfloat16 products", "n - 1",
          "crude exp")


def result(contract: Contract, inputs: Mapping, mode: storage.Stored,
           precision: Precision = FLOAT32) -> dict[str, np.ndarray]:
    """Every output of the explicit function in float32 under `mode`, as memory holds it."""
    arguments = measuring.single(measuring.tensors_of(contract, inputs))
    with np.errstate(all="ignore"):
        found = storage.originals(measuring.explicit(contract, arguments, mode), mode)
    found = {name: value.numpy() for name, value in found.items()}
    dtypes = {name: precision.dtypes[contract.by_name[name].role] for name in found}
    return {name: at_random.rounded(value, value.size) if name in contract.at_random
            and dtypes[name] != "float32" else rounded(value, dtypes[name])
            for name, value in found.items()}


def marks_of(contract: Contract, inputs: Mapping, precision: Precision) -> frozenset[int]:
    """The steps that may be stored rounded."""
    arguments = measuring.tensors_of(contract, inputs)
    return storage.marks(contract, lambda mode: measuring.explicit(contract, arguments, mode),
                         precision)


def variants(contract: Contract, case: cases.Case, device=None) -> Iterator[tuple[str, dict]]:
    """Honest results of one case by variant: each order, and each version on `device`."""
    inputs, precision = known.of(case, contract).inputs, precisions.of(case.precision)
    marks = marks_of(contract, inputs, precision)
    for order in ORDERS:
        yield order, result(contract, inputs, Ordered(order), precision)
        if marks:
            yield f"{order}, stored", result(contract, inputs, Ordered(order, marks), precision)
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
    value, scale, dtype = truth.value[name], truth.scale[name], truth.dtypes[name]
    with np.errstate(all="ignore"):
        half = gate.UNITS[dtype] * np.abs(value) + gate.TINIEST[dtype]
        over = np.abs(got - value) - half * (1 + truth.at_random(name, dtype))
        ratio = np.where(scale > 0, over / np.maximum(scale, gate.EPSILON),
                         np.where(over > 0, np.inf, 0))
    judged = np.isfinite(value) & np.isfinite(got) & np.isfinite(scale)
    return float(np.max(ratio, where=judged, initial=0.0))


def any_case(contract: Contract, seed: int, precision: str = "float32") -> cases.Case:
    """A case of any family, its sizes spread over orders of magnitude; every third is large."""
    random = np.random.default_rng([seed, zlib.crc32(contract.name.encode())])
    least = 0.5 if seed % 3 == 0 else 0.0
    while True:
        sizes = {}
        for axis in cases.axes_of(contract):
            limit = np.log(cases.LIMITS.get(axis, cases.LARGEST) + 1)
            sizes[axis] = int(np.exp(random.uniform(least * limit, limit)))
        for low, high in cases.BELOW.items():
            if low in sizes and high in sizes:
                sizes[low] = min(sizes[low], sizes[high])
        if cases.small_enough(contract, sizes):
            family = random.choice(list(cases.FAMILIES))
            return cases.Case(contract.name, tuple(sizes.items()), seed, str(family), precision)


def survey(contract: Contract, case: cases.Case, device=None) -> Iterator[tuple]:
    """Variant, output, slack needed and findings of every honest result of one case.

    Stock is the rule for kernels alone: an explicit function may be clearer than it is accurate.
    """
    found = known.of(case, contract)
    for variant, outputs in variants(contract, case, device):
        for name, got in outputs.items():
            explicit = variant.partition(",")[0] in ORDERS
            stock = None if explicit else found.stock.get(name)
            findings, _ = gate.judge(found.truth, name, got, stock=stock)
            yield variant, name, needed(found.truth, name, got), findings


def calibrate(seeds: range, device=None, only: str | None = None,
              precision: str = "float32") -> dict:
    """The slack that honest results need, by output, and every result that the gate refused."""
    worst: dict[str, tuple] = {}
    refused, results = [], 0
    for contract in contracts.read_all().values():
        if only and only != contract.name:
            continue
        for seed in seeds:
            case = any_case(contract, seed, precision)
            for variant, name, slack, findings in survey(contract, case, device):
                key, results = f"{contract.name} {name}", results + 1
                worst[key] = max(worst.get(key, (0.0,)), (round(slack, 3), str(case), variant))
                refused += [[variant, str(case), f.check, f.message] for f in findings]
            known._KNOWN.clear()
    families = Counter(entry[1].rpartition("=")[2] for entry in worst.values())
    return {"slack": gate.SLACK, "results": results, "seeds": [seeds.start, seeds.stop],
            "worst": dict(sorted(worst.items())), "refused": refused,
            "families of the worst": dict(families)}


def main(words: list[str] | None = None) -> None:
    """`python -m checks.gate`: the calibration, or what is stored of it."""
    parser = argparse.ArgumentParser(prog="python -m checks.gate", description=main.__doc__)
    parser.add_argument("--calibrate", action="store_true", help="run it and store the figures")
    parser.add_argument("--seeds", type=int, default=20, help="cases for each operation (20)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--only", help="one operation and direction, as layernorm_forward")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    options = parser.parse_args(words)
    stored = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    if options.calibrate:
        from ported.device import cpu

        torch.set_num_threads(1)
        seeds = range(options.first, options.first + options.seeds)
        device = cpu.open(1) if options.dtype == "float32" else None
        found = calibrate(seeds, device, options.only, options.dtype)
        if options.only is None:
            GOLDEN.write_text(json.dumps({**stored, options.dtype: found}, indent=1) + "\n")
    else:
        found = stored[options.dtype]
    for name, (slack, case, variant) in found["worst"].items():
        print(f"{name:40} {slack:6.2f}  {variant:28} {case}")
    print(f"{found['results']} results; slack needed at most "
          f"{max(entry[0] for entry in found['worst'].values()):.2f}, the gate grants "
          f"{found['slack']}; {len(found['refused'])} refused")
    if found["refused"]:
        raise SystemExit("\n".join(" ".join(entry) for entry in found["refused"][:40]))
