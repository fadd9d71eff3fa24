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
from ported.contract import Contract

KEPT = 400  # cases; a few hundred kilobytes each
AGREE = 1e-10  # relative L2 distance of stock and explicit, both in float64


@dataclass(frozen=True)
class Known:
    """One case: `stock` by output, in float32 (empty where PyTorch does not give an output)."""

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
            found[tensor.name] = numbers.astype(np.float32)
        return found


_KNOWN: OrderedDict[Case, Known] = OrderedDict()


def of(case: Case, contract: Contract) -> Known:
    """Inputs, truth and stock's result of `case`, kept for the next version that asks. A case of
    which the gate judges parts has no stock result: it would have to be made whole."""
    found = _KNOWN.get(case)
    if found is None:
        drawn = cases.draw(case, contract)
        with np.errstate(all="ignore"):
            truth = gate.truth_of(contract, drawn.inputs, seed=case.seed)
            whole = not any(part.kept for part in truth.parts)
            stock = stock_of(contract, drawn, torch.float32) if whole else {}
            found = Known(drawn, truth, stock)
        _KNOWN[case] = found
        if len(_KNOWN) > KEPT:
            _KNOWN.popitem(last=False)
    return found


def forget() -> None:
    """Lets go of all cases (those at a run's shapes are large)."""
    _KNOWN.clear()


def _tensors(inputs: Mapping, dtype: torch.dtype) -> dict:
    """Arrays as tensors, floating ones of `dtype`; sizes and constants as they are."""
    made = {}
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            tensor = torch.from_numpy(value.copy())
            value = tensor.to(dtype) if tensor.is_floating_point() else tensor
        made[name] = value
    return made


def stock_of(contract: Contract, drawn: Drawn, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """What PyTorch's own code says; a backward is autograd's of the stock forward."""
    from reference import stock

    names = {tensor.name for tensor in contract.outputs}
    if contract.direction == "backward":
        douts = _tensors(cases.gradients_of(contract, drawn), dtype)
        found = stock.gradients(contract.operation, _tensors(drawn.forward, dtype), douts)
    else:
        module = importlib.import_module(f"reference.stock.{contract.operation}")
        with torch.no_grad():
            found = getattr(module, contract.direction)(**_tensors(drawn.inputs, dtype))
    found = found if isinstance(found, dict) else found._asdict()
    return {name: value.detach().numpy() for name, value in found.items() if name in names}


def disagreements(case: Case, contract: Contract) -> list[tuple[str, str, float]]:
    """Where explicit and stock part in float64: (output, message, distance over the bound).

    A backward is fed saved tensors that were not rounded, since stock keeps its own.
    """
    drawn = of(case, contract).drawn
    inputs = dict(drawn.inputs)
    if drawn.forward is not None:
        saved = cases.explicit(cases.forward_of(contract), drawn.forward)
        inputs |= {name: value for name, value in saved.items() if name in inputs}
    truth = cases.explicit(contract, inputs)
    wrong = []
    for name, value in stock_of(contract, drawn, torch.float64).items():
        distance = np.linalg.norm((value - truth[name]).reshape(-1))
        ratio = float(distance / max(np.linalg.norm(truth[name].reshape(-1)), 1.0) / AGREE)
        if not ratio <= 1:
            wrong.append((name, f"{name}: stock and explicit are {ratio * AGREE:.3g} apart in "
                          f"float64, expected at most {AGREE:g}", ratio))
    return wrong
