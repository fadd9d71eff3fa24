"""The verdict of verify_verdict.py as text for a terminal: the verdict first, then why, then what
it does not say."""

import textwrap
from collections.abc import Mapping

WIDTH = 100
REFUSALS = 5
BUSY = 3.0  # samples of one call this far apart say that something else ran
UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def seconds(value: float) -> str:
    """A time in its natural unit."""
    unit, name = next(((u, n) for u, n in UNITS if value >= u), UNITS[-1])
    return f"{value / unit:.3g} {name}"


def number(value) -> str:
    """A ratio as people read it."""
    if isinstance(value, str):
        return value
    if value < 0.095:
        return f"{value:.1g}"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}" if value < 1e5 else f"{value:.1e}"


def filled(text: str, indent: int = 2, first: str = "") -> list[str]:
    """Lines of a paragraph; later ones are indented further."""
    return textwrap.wrap(text, WIDTH, initial_indent=" " * indent + first,
                         subsequent_indent=" " * (indent + max(len(first), 2)),
                         break_long_words=False, break_on_hyphens=False)


def shape(axes: Mapping[str, int]) -> str:
    """`N=256 C=768`."""
    return " ".join(f"{axis}={size}" for axis, size in axes.items())


def text(verdict: Mapping) -> str:
    """The whole report."""
    lines = [f"{verdict['verdict'].upper()}: {verdict['message']}", "", *_head(verdict)]
    for place, proof in enumerate(verdict["proofs"]):
        lines += ["", *_proof(proof, explained=not place)]
    if verdict["timings"]:
        lines += ["", "TIME", *(line for one in verdict["timings"] for line in _timing(one))]
    if verdict["verdict"] != "error":
        lines += ["", "NOT CHECKED", *_not_checked(verdict["not_checked"])]
    lines += ["", f"again: {verdict['command']}"]
    return "\n".join(lines)


def _head(verdict: Mapping) -> list[str]:
    file, machine, asked = verdict["file"], verdict["machine"], verdict["asked"]
    rows = {"operation": f"{verdict['operation']['name']}: {verdict['operation']['says']}",
            "file": f"{file['path']}, {file['lines']} lines, SHA-256 {file['sha256'][:16]}",
            "directives": "; ".join(file["directives"]),
            "machine": on(machine), "made with": made_with(machine),
            "asked": f"the {asked['tier']} tier, seed {asked['seed']}"
            + (f", one case: {asked['case']}" if asked["case"] else "")}
    return [line for name, row in rows.items() if row for line in filled(row, 2, f"{name:11}")]


def on(machine: Mapping) -> str:
    """The machine in a line."""
    cores = f", {machine['cores']} threads" if machine["cores"] else ""
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    return f"{machine['processor']}{cores}{gpu}, {machine['system']}"


def made_with(machine: Mapping) -> str:
    """The programs behind the verdict in a line."""
    return ", ".join([f"Trivium at {machine['revision']}", f"Python {machine['python']}",
                      f"PyTorch {machine['torch']}", f"NumPy {machine['numpy']}",
                      *machine["compilers"].values()])


def _proof(proof: Mapping, explained: bool) -> list[str]:
    count = proof["configurations"]
    more = f", {count} launch configurations" if count > 1 else ""
    lines = [f"{proof['device'].upper()}, {proof['precision']}: {proof['verdict']} in "
             f"{proof['seconds']:.1f} s{more}"]
    if proof["reason"]:
        return lines + filled(proof["reason"])
    lines += _refusals(proof)
    ran = [check for check in proof["checks"] if check["examples"] or check["refused"]]
    if ran:
        lines += ["", f"  {'check':16}{'examples':>8}{'refused':>8}{'worst':>8}   " + explained *
                  "what it asks (worst: error over its bound; at most 1 is accepted)"]
    for check in ran:
        worst = "" if check["worst"] is None else number(check["worst"])
        first = f"{check['name']:16}{check['examples']:8}{check['refused'] or '':>8}{worst:>8}   "
        lines += filled(check["says"], 2, first) if explained else ["  " + first.rstrip()]
    return lines + _errors(proof)


def told(proof: Mapping) -> tuple[list[Mapping], str]:
    """Of a proof's refusals those to write out, one for each check, what follows from others last
    of all; and the checks that are only counted."""
    found, named = [], set()
    for refusal in proof["refusals"]:
        if not (set(refusal["checks"]) <= named or refusal["follows"] and found):
            found.append(refusal)
            named |= set(refusal["checks"])
    found = found[:REFUSALS]
    named = {check for refusal in found for check in refusal["checks"]}
    others = [f"{check} ({n})" for check, n in proof["refused"].items() if check not in named]
    return found, ", ".join(others)


def _refusals(proof: Mapping) -> list[str]:
    first, others = told(proof)
    lines = []
    for refusal in first:
        found = refusal["found"].splitlines() or [""]
        lines += ["", *filled(found[0], 2, f"{', '.join(refusal['checks'])}: ")]
        lines += [f"      {line}" for line in found[1:]]
        if refusal["parameters"]:
            lines.append(f"      configuration  {shape(refusal['parameters'])}")
        if refusal["case"]:
            lines += [f"      case    {refusal['case']}", f"      replay  {refusal['replay']}"]
    return lines + (["", *filled(others, 2, "refused as well: ")] if others else [])


def by_output(errors: list[Mapping]) -> dict[str, Mapping]:
    """The worst of each output, the worst of all first."""
    found: dict[str, Mapping] = {}
    for error in errors:
        found.setdefault(error["output"], error)
    return found


NARROW = "rounding to bfloat16 takes up nearly all of a bound, so that honest results come near 1"


def _errors(proof: Mapping) -> list[str]:
    """The worst case, and the worst by output."""
    errors = proof["errors"]
    if not errors:
        return []
    worst = errors[0]
    lines = ["", f"  worst case: {worst['output']} at {number(worst['worst'])} of its bound",
             f"      case    {worst['case']}", f"      replay  {worst['replay']}",
             "  error over bound by output:"]
    return lines + [f"      {name:10} {number(e['worst']):>6}  ({e['check']}, {e['family']}: "
                    f"{e['case'].partition(':')[2]})" for name, e in by_output(errors).items()] + (
                        filled(NARROW, 6) if proof["precision"] == "bfloat16" else [])


def busy(timing: Mapping) -> str:
    """A warning where the samples of a time are far apart."""
    for name in ("samples", "peer_samples"):
        low, high = (pick(timing.get(name) or [1.0]) for pick in (min, max))
        if high > BUSY * low:
            whose = "this file's" if name == "samples" else "PyTorch's"
            return (f"{whose} samples lie between {seconds(low)} and {seconds(high)}: something "
                    "else ran on this machine, so these times say little")
    return ""


def against(timing: Mapping) -> list[str]:
    """How the time stands against each peer: words."""
    said = []
    for name, theirs in timing["peers"].items():
        ratio = theirs / timing["seconds"]
        how = f"{ratio:.2f} times as fast as" if ratio >= 1 else f"{1 / ratio:.2f} times as slow as"
        said.append(f"{how} {name} ({seconds(theirs)})")
    return said


EQUAL = "called again, the timed calls leave the output that was judged at this shape"


def _timing(timing: Mapping) -> list[str]:
    where = f"{timing['device']} {timing['precision']}, {shape(timing['axes'])}"
    set_to = f", {shape(timing['parameters'])}" if timing["parameters"] else ""
    peers = "; ".join(against(timing)) or "PyTorch has nothing to time here"
    verdict = f": {timing['verdict']}" if timing["verdict"] else ""
    lines = filled(f"{where}{set_to}: {seconds(timing['seconds'])}, {peers}{verdict}")
    lines += filled(f"{timing['share']:.0%} of the roofline ({timing['roof']}): "
                    f"{timing['bytes'] / timing['seconds'] / 1e9:.3g} GB/s of "
                    f"{timing['ceilings']['bandwidth'] / 1e9:.3g} that a copy reaches here"
                    + (f", {timing['operations'] / timing['seconds'] / 1e9:.3g} of "
                       f"{timing['ceilings']['arithmetic'] / 1e9:.3g} GFLOP/s"
                       if timing["operations"] else ""), 6)
    lines += filled(EQUAL, 6) if timing["digest"] == "equal" else []
    lines += filled(f"FAULT, so that this time does not count: {timing['fault']}", 6) * bool(
        timing["fault"])
    return lines + (filled(busy(timing), 6) if busy(timing) else [])


def _not_checked(listed: list[Mapping]) -> list[str]:
    return [line for one in listed for line in filled(
        f"{one['what']}: {one['why']}" + (f" ({one['where']})" if one["where"] else ""), 2, "- ")]
