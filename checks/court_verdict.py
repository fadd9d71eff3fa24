"""What follows from a proof and a witness: the states of the kill matrix."""

from collections.abc import Iterable, Mapping

from checks import more_checks
from checks.prove import CHECKS, CUDA_CHECKS

STATES = ("survived", "crashed", "timed-out", "error", "not-applied", "not-compiled",
          "refused without a witness", "no witness", "equivalent", "killed-by", "not run here")
HINTS = 3  # cases of a refusal at which a witness is looked for
ALL = {**CHECKS, **CUDA_CHECKS, **dict.fromkeys(more_checks.BY_NAME, 1)}


def summary(proof: Mapping) -> dict:
    """What a row keeps of a proof."""
    refused = [check for check in ALL if check in proof["refused"]]
    faults = proof["faults"]
    return {"verdict": proof["verdict"], "by": refused, "seconds": proof["seconds"],
            "first": f"{faults[0]['check']}: {faults[0]['message']}" if faults else "",
            "during": proof.get("during", ""), "ran": proof.get("phases", {}),
            "cpu": proof.get("cpu", 0.0)}


def hints(faults: Iterable[Mapping]) -> list[dict]:
    """Where the prover refuses: the case and the configuration of the first refusals that have
    one."""
    found: dict[tuple, dict] = {}
    for fault in faults:
        key = (fault["case"], *fault["parameters"].items())
        if fault["case"]:
            found.setdefault(key, {name: fault[name] for name in ("case", "parameters", "check")})
    return [*found.values()][:HINTS]


def verdict(found: Mapping, seen: str, kind: str) -> dict:
    """State, checks and first words, from a proof in short and the line of a witness."""
    said, by, first = found["verdict"], found["by"], found["first"]
    if said in ("crashed", "timed-out"):
        again = found["again"]
        if again["verdict"] == "refused":
            said, by = "refused", again["by"]
            first = f"{again['first']} (a whole proof {found['verdict']})"
        elif seen.startswith(("crashed", "timed-out")) or ": fault: " in seen:
            said, by = "refused", [found["during"] or "launch"]
        else:
            return {"state": said, "by": []}
    if said in ("error", "not applicable"):
        return {"state": "error", "by": [], "first": first}
    if by and (seen or kind == "reject"):
        state = "killed-by"
    elif by:
        state = "refused without a witness"
    else:
        state = "survived" if seen else "no witness" if kind == "mutant" else "equivalent"
    return {"state": state, "by": by, "first": first}
