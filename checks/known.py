"""What is known of a case before any kernel runs: inputs, float64 truth, stock PyTorch's result.

It depends on the case alone, so all versions and launch configurations share it.
"""

import importlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from checks import cases, gate
from checks.cases import Case, Drawn
from ported import precision as precisions
from ported.contract import Contract
from ported.precision import Precision

KEPT = 400  # cases; a few hundred kilobytes each
AGREE = 1e-10  # relative L2 distance of stock and explicit, both in float64


@dataclass(frozen=True)
class Known:
    """One case: `stock` by output, of the case's precision (empty where PyTorch does not give an
    output), as NumPy's own numbers."""

    drawn: Drawn
    truth: gate.Truth
    stock: dict[str, np.ndarray]

    @property
    def inputs(self) -> dict:
        return self.drawn.inputs

    @property
    def judgeable(self) -> bool:
        """Whether there is a truth to hold a kernel to. A backward may be left without one where
        float32 cannot hold what the forward saves (a log-sum-exp of 1e18)."""
        return self.drawn.forward is None or self.drawn.case.family == "neginf" or all(
            np.isfinite(value).all() for value in self.truth.value.values())

    @property
    def whole(self) -> bool:
        """Whether all of the outputs is judged, not a sample of a large case."""
        return not any(part.kept for part in self.truth.parts)

    def starts(self, contract: Contract) -> dict[str, np.ndarray]:
        """Numbers of the result's own size that stand in every `Sum` output before a launch."""
        found = {}
        for tensor in contract.outputs:
            if tensor.access != "sum":
                continue
            random = np.random.default_rng([self.drawn.case.seed, 17])
            value = np.nan_to_num(self.truth.value[tensor.name], posinf=0, neginf=0)
            size = min(float(np.sqrt(np.mean(np.square(value)))), 1e30)
            shape = tensor.shape(self.drawn.case.sizes)
            numbers = random.standard_normal(shape, np.float32) * (size or 1.0)
            if self.drawn.case.family == "integer":
                numbers = np.rint(np.clip(numbers, -1e3, 1e3))
            found[tensor.name] = cases.stored(self.drawn.case, tensor, numbers)
        return found


_KNOWN: OrderedDict[Case, Known] = OrderedDict()


def of(case: Case, contract: Contract) -> Known:
    """Inputs, truth and stock's result of `case`, kept for the next version that asks. A case of
    which the gate judges parts has no stock result: it would have to be made whole."""
    found = _KNOWN.get(case)
    if found is None:
        drawn = cases.draw(case, contract)
        with np.errstate(all="ignore"):
            precision = precisions.of(case.precision)
            truth = gate.truth_of(contract, drawn.inputs, seed=case.seed, precision=precision)
            whole = not any(part.kept for part in truth.parts)
            stock = stock_as_stored(contract, drawn, truth) if whole else {}
            found = Known(drawn, truth, stock)
        _KNOWN[case] = found
        if len(_KNOWN) > KEPT:
            _KNOWN.popitem(last=False)
    return found


def forget() -> None:
    """Lets go of all cases (those at a run's shapes are large)."""
    _KNOWN.clear()


def _tensors(contract: Contract, inputs: Mapping, precision: Precision | None) -> dict:
    """Arrays as tensors, floating ones of their role's dtype, or of float64 without a precision;
    sizes and constants as they are."""
    made = {}
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value.copy())
            if value.is_floating_point():
                dtype = precision.dtypes[contract.by_name[name].role] if precision else "float64"
                value = value.to(getattr(torch, dtype))
        made[name] = value
    return made


def stock_of(contract: Contract, drawn: Drawn, precision: Precision | None
             ) -> dict[str, np.ndarray]:
    """What PyTorch's own code says, in a precision or in float64; a backward is autograd's of the
    stock forward."""
    from reference import stock

    names = {tensor.name for tensor in contract.outputs}
    if contract.direction == "backward":
        douts = _tensors(contract, cases.gradients_of(contract, drawn), precision)
        given = _tensors(cases.forward_of(contract), drawn.forward, precision)
        found = stock.gradients(contract.operation, given, douts)
    else:
        module = importlib.import_module(f"reference.stock.{contract.operation}")
        with torch.no_grad():
            found = getattr(module, contract.direction)(
                **_tensors(contract, drawn.inputs, precision))
    found = found if isinstance(found, dict) else found._asdict()
    found = {name: value.detach() for name, value in found.items() if name in names}
    return {name: (value.float() if value.dtype == torch.bfloat16 else value).numpy()
            for name, value in found.items()}


def stock_as_stored(contract: Contract, drawn: Drawn, truth: gate.Truth) -> dict[str, np.ndarray]:
    """PyTorch's result, rounded to the outputs' dtypes. PyTorch computes in float32, as kernels do;
    where they may round on the way (storage.py), in the precision itself, which does."""
    found = stock_of(contract, drawn, truth.precision if truth.stored else precisions.FLOAT32)
    return {name: precisions.rounded(value, truth.dtypes[name]) for name, value in found.items()}


def unrounded(drawn: Drawn, contract: Contract) -> dict:
    """The inputs of a case; of a backward, what the forward saved as float64 has it."""
    inputs = dict(drawn.inputs)
    if drawn.forward is not None:
        saved = cases.explicit(cases.forward_of(contract), drawn.forward)
        inputs |= {name: value for name, value in saved.items() if name in inputs}
    return inputs


def disagreements(case: Case, contract: Contract) -> list[tuple[str, str, float]]:
    """Where explicit and stock part in float64: (output, message, distance over the bound).

    A backward is fed saved tensors that were not rounded, since stock keeps its own.
    """
    drawn = of(case, contract).drawn
    truth = cases.explicit(contract, unrounded(drawn, contract))
    wrong = []
    for name, value in stock_of(contract, drawn, None).items():
        distance = np.linalg.norm((value - truth[name]).reshape(-1))
        ratio = float(distance / max(np.linalg.norm(truth[name].reshape(-1)), 1.0) / AGREE)
        if not ratio <= 1:
            wrong.append((name, f"{name}: stock and explicit are {ratio * AGREE:.3g} apart in "
                          f"float64, expected at most {AGREE:g}", ratio))
    return wrong
