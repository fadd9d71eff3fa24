"""What a refused kernel wrote at one case beside what it should have, element by element.

It is computed anew, in the process of the prover that may be lost; a refusal that does not show in
one plain launch (it takes another fill, pointer or order of threads) has no picture.
"""

import numpy as np

from checks import gate
from checks.cases import parse
from checks.trial import Ledger, Subject, Trial
from ported import contract as contracts

ROWS, COLUMNS = 12, 24  # of the window around the worst element


def of(version, device, fault: dict) -> dict | None:
    """The picture of a fault (`check`, `output`, `case`, `parameters`), or None.

    found, expected, bound: the window as rows of numbers; wrong: whether each is beyond its bound;
    at: row and column of the window's first element in the output as a matrix of `shape`."""
    contract = contracts.of(version.contract_name)
    case = parse(fault["case"], contract, device.precision.name)
    subject = Subject(version, contract, device, fault["parameters"], Ledger())
    trial, output = Trial(subject, case), fault["output"]
    starts = trial.known.starts(contract) if fault["check"] == "accumulate" else {}
    with np.errstate(all="ignore"):
        got = trial.run(starts=starts).outputs[output].astype(np.float64)
        truth = trial.known.truth
        if truth.cut(output, got).shape != got.shape:
            return None  # of a large case the gate judges parts
        value, _, bound = gate._bound(truth, output, starts.get(output), truth.dtypes[output])
        within = (np.abs(got - value) <= bound) | np.isinf(bound) | (
            np.isnan(got) & np.isnan(value)) | (got == value)
    return _window(output, got, value, bound, ~within) if not within.all() else None


def _window(output: str, got, value, bound, wrong) -> dict:
    shape = got.shape
    got, value, bound, wrong = map(gate.rows, (got, value, bound, wrong))
    if shape[1:] == () and got.shape[0] > 1:  # a vector reads better as a row
        got, value, bound, wrong = (array.T for array in (got, value, bound, wrong))
    with np.errstate(all="ignore"):
        size = np.where(wrong, np.nan_to_num(np.abs(got - value) / bound, nan=np.inf), -1)
    row, column = np.unravel_index(np.argmax(size), size.shape)
    top = max(0, min(int(row) - ROWS // 2, got.shape[0] - ROWS))
    left = max(0, min(int(column) - COLUMNS // 2, got.shape[1] - COLUMNS))
    cut = np.s_[top:top + ROWS, left:left + COLUMNS]
    return {"output": output, "shape": list(shape), "at": [top, left],
            "size": list(got.shape), "wrong_in_all": int(wrong.sum()),
            "found": got[cut].tolist(), "expected": value[cut].tolist(),
            "bound": bound[cut].tolist(), "wrong": wrong[cut].tolist()}
