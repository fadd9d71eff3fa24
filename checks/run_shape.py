"""The run-shape tier: poison, accumulate, guards and gate at exactly the shapes of a run.

    python -m checks.run_shape THREADS

Reads requests from standard input, a line of JSON each ({"version", "parameters", "axes", "consts",
"device", "precision"}), and answers each with a line: {"verdict", "message", "examples", "seconds",
"not_run"}. All kernels run in this one process. The gate judges a large case at its edges and at
random slices (sampling.py; run_shape_large.py). A region of the optimizer is cut to SEGMENTS, and
what is left out is counted: AdamW's elements do not meet; the norm's do, in a sum shorter than the
run's.
"""

import json
import sys
import time

from checks import memory_checks, run_shape_large, select
from checks.cases import Case, axes_of
from checks.known import forget
from checks.trial import Broken, Ledger, Subject, Trial
from ported import device as devices
from ported.contract import Contract
from ported.device import NotApplicable

SEGMENTS = 1 << 15
FAMILY = "unit"


def prove_at(request: dict, device) -> Ledger:
    """The ledger of one kernel at the axes, parameters and constants of a run."""
    version, contract = select.read(request["version"], device.language)
    ledger = Ledger()
    axes = dict(request["axes"])
    if axes.get("S", 0) > SEGMENTS:
        ledger.not_run[f"segments beyond {SEGMENTS} of {axes['S']}"] += 1
        axes["S"] = SEGMENTS
    axes = {"V": axes.get("Vp"), "Vp": axes.get("V"), **axes}  # a forward may need the other
    ordered = tuple((axis, int(axes[axis])) for axis in axes_of(contract))
    case = Case(contract.name, ordered, 0, FAMILY, device.precision.name)
    large = run_shape_large.is_large(contract, case)
    if large:
        run_shape_large.know(case, contract)
    subject = (run_shape_large.LargeSubject if large else Subject)(
        version, contract, device, request["parameters"], ledger)
    try:
        trial = Trial(subject, case)
        trial.inputs.update({name: float(value) for name, value in request["consts"].items()})
        if large:
            run_shape_large.judge(trial)
        else:
            _judge(trial, contract)
    except Broken:
        pass
    finally:
        forget()
    return ledger


def _judge(trial: Trial, contract: Contract) -> None:
    first = memory_checks.base(trial)
    trial.judge(first)
    starts = trial.known.starts(contract)
    again = trial.run(fill="random", guard="random", starts=starts)
    trial.same("poison", first, again, "outputs, scratch and the memory around them held random "
               "bytes instead of NaN", [name for name in again.outputs if name not in starts])
    if starts:
        trial.judge(again.only(starts), ["accumulate"], "added to random numbers: ", starts)


def answer(request: dict, device) -> dict:
    """One result; what cannot be judged is refused with the reason."""
    start = time.monotonic()
    try:
        ledger = prove_at(request, device)
    except (ValueError, RuntimeError, NotApplicable) as error:
        return {"verdict": "refused", "message": str(error), "examples": {}, "not_run": {},
                "seconds": round(time.monotonic() - start, 2)}
    fault = ledger.faults[0] if ledger.faults else None
    return {"verdict": "refused" if fault else "proved",
            "message": f"{fault.check}: {fault.message}" if fault else "",
            "examples": dict(ledger.examples), "not_run": dict(ledger.not_run),
            "seconds": round(time.monotonic() - start, 2)}


def main(threads: int) -> None:
    """Answers requests until there are no more. Standard output is kept for the answers."""
    import torch

    answers, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(threads)
    opened = {}
    for line in sys.stdin:
        request = json.loads(line)
        where = request.get("device", "cpu"), request.get("precision", "float32")
        if where not in opened:
            more = {"threads": threads} if where[0] == "cpu" else {}
            opened[where] = devices.open(where[0], precision=where[1], **more)
        print(json.dumps(answer(request, opened[where])), file=answers, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
