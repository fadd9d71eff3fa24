"""A proof as text: which check, where, found, expected, and the command that replays it."""

import shlex
from collections.abc import Mapping

SHOWN = 4  # faults written out; the rest are counted


def replay(version: str, device: str, case: str, precision: str = "float32") -> str:
    """One command that runs every check at one case."""
    where = device if device == "cpu" else f"{device} --dtype {precision}"
    return f"pytest checks --kernel {version} --device {where} --case {shlex.quote(case)}"


def line(version: str, proof: Mapping) -> str:
    """One proof in one line."""
    if proof["verdict"] == "not applicable":
        return f"{version}: not proved here: {proof['reason']}"
    ran = sum(check["examples"] for check in proof["checks"].values())
    worst = max((check["worst"] for check in proof["checks"].values()), default=0.0)
    count = proof["configurations"]
    more = f", {count} configurations" if count > 1 else ""
    text = (f"{version}: {proof['verdict']}: {ran} examples{more}, worst {worst:.2g} of its bound, "
            f"{proof['seconds']:.1f} s")
    refused = ", ".join(f"{name} ({n})" for name, n in proof["refused"].items())
    return f"{text}; refused by {refused}" if refused else text


def faults(version: str, device: str, proof: Mapping) -> str:
    """The refusals of a proof, one of each check first, each with the command that replays it."""
    seen: dict[tuple, list[str]] = {}
    by_key: dict[tuple, Mapping] = {}
    for fault in proof["faults"]:
        key = (fault["message"], fault["case"])
        seen.setdefault(key, []).append(fault["check"])
        by_key.setdefault(key, fault)
    lines = [line(version, proof)]
    for key, checks in list(seen.items())[:SHOWN]:
        fault = by_key[key]
        lines.append(f"  {', '.join(checks)}: {fault['message']}")
        if fault["parameters"]:
            lines.append(f"    configuration: {fault['parameters']}")
        if fault["case"]:
            name = version.rpartition("_")[0]
            case = fault["case"].removeprefix(f"{name}:")
            again = replay(version, device, case, proof.get("precision", "float32"))
            lines += [f"    case: {fault['case']}", f"    replay: {again}"]
    if len(seen) > SHOWN:
        lines.append(f"  and {len(seen) - SHOWN} more like these")
    return "\n".join(lines)


def not_run(proofs: Mapping[str, Mapping]) -> list[str]:
    """What did not run and why, over several proofs: one line a reason."""
    reasons: dict[str, list[str]] = {}
    for version, proof in proofs.items():
        for reason in proof["not_run"]:
            reasons.setdefault(reason, []).append(version)
    return [f"{reason} ({', '.join(names[:2])}"
            f"{f' and {len(names) - 2} more' if len(names) > 2 else ''})"
            for reason, names in sorted(reasons.items())]
