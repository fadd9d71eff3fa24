"""golden/kill_matrix.json and the page made of it, golden/kill_matrix.md.

    python -m checks.kill_page            says whether the page is as it would be written
    python -m checks.kill_page --write    writes it
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping

from checks import kill_count, more_checks
from checks.mutants import FAMILIES
from ported.contract import ROOT

JSON = ROOT / "golden" / "kill_matrix.json"
PAGE = ROOT / "golden" / "kill_matrix.md"
UNKEPT = ("verdict", "during", "again")  # what made the state of a row
HEAD = """# Can the prover be trusted?

A prover that accepts everything looks the same as a good one until a wrong kernel comes along. So
wrong ones are made on purpose. A **mutant** is a right kernel, trainer or benchmark with one small,
realistic bug; every mutant is judged by *all* checks, the costly ones where few others refuse, and
this page says which of them refused it.

Rules that keep the figures honest: a patch must fit exactly one place. A mutant counts only where a
**witness** shows that it does something else: an input on which its results, or the memory that it
leaves, differ from the right file's, found without asking any check. It counts as killed only where
a check refused it; what did not compile, or crashed for another reason, does not count. Kernels
that do nothing must be refused, and files with a change that does not matter, or that compute in
another honest way, must be accepted; else the run is void.

Written by `make mutants ARGS=--write`; do not edit.
"""
STATES = {
    "survived": "a witness, and no check refused it",
    "crashed": "took the prover with it, which is not how it differs",
    "timed-out": "did not end, which is not how it differs",
    "refused without a witness": "refused, though no input was found on which it differs",
    "no witness": "no input was found on which it differs, and no check refused it",
    "equivalent": "the same of a change that was made not to matter",
    "error": "could not be judged", "not-applied": "its patch does not fit",
    "not-compiled": "does not compile"}


def load() -> dict:
    """What the last written runs found: parts `matrix`, `honest`, `cuda`; empty where there is no
    file."""
    return json.loads(JSON.read_text()) if JSON.is_file() else {}


def write(found: Mapping) -> None:
    """Stores the parts of a run in place of their older ones, and the page."""
    whole = {**load(), **found}
    order = ("matrix", "honest", "cuda")
    parts = [f'"{part}": {_lines(whole[part])}' for part in order if part in whole]
    JSON.write_text("{" + ",\n".join(parts) + "}\n")
    PAGE.write_text(page(load()))


def _lines(part: Mapping) -> str:
    """A part with one row a line, so that differences read well."""
    words = []
    for key, value in part.items():
        if isinstance(value, list):
            rows = ",\n  ".join(json.dumps({k: v for k, v in row.items() if k not in UNKEPT},
                                          ensure_ascii=False) for row in value)
            words.append(f'"{key}": [\n  {rows}]' if value else f'"{key}": []')
        else:
            words.append(f'"{key}": {json.dumps(value)}')
    return "{" + ",\n ".join(words) + "}"


def _table(heads: Iterable[str], rows: Iterable[Iterable]) -> str:
    heads = list(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(_cell(word) for word in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(word) -> str:
    text = f"{word:.1f}" if isinstance(word, float) else str(word)
    return " ".join(text.replace("|", "\\|").split())


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else text[:most - 3] + "..."


def on_a_gpu(whole: Mapping) -> list[Mapping]:
    """Rows of what only a GPU tells from the right file: as judged there, where that was done."""
    known = {row["name"]: row for row in whole.get("cuda", {}).get("rows", [])}
    return [known.get(row["name"], row) for row in whole["matrix"]["rows"]
            if row["state"] == "not run here"]


def figures(whole: Mapping) -> str:
    """The result in a few sentences, for the head of the page and README."""
    if "matrix" not in whole:
        return "No kill matrix is in the tree; `make mutants ARGS=--write` writes it."
    matrix = whole["matrix"]
    rows, run = matrix["rows"], matrix["run"]
    seen, killed = kill_count.witnessed(rows), kill_count.killed(rows)
    backward = sum(row["direction"] == "backward" for row in seen)
    training = sum(row["device"] == "host" and row["family"] == "training" for row in seen)
    refused = sum(row["state"] == "killed-by" for row in matrix["rejects"])
    fast = len(kill_count.of_tier(rows, "fast"))
    text = (f"**{len(killed)} of {len(seen)}** mutants with a witness are refused "
            f"({kill_count.share(rows):.1%}), {fast} of them by the fast tier and "
            f"{len(killed) - fast} by the deep one; {backward} mutants are in backward kernels, "
            f"{training} in training code. Of {len(matrix['rejects'])} wrong kernels as whole "
            f"files, {refused} are refused. ")
    if "cuda" in whole:
        far = on_a_gpu(whole)
        text += (f"Not counted there: of {len(far)} mutants that only a GPU tells from the right "
                 f"file, {len(kill_count.killed(far))} of {len(kill_count.witnessed(far))} with a "
                 f"witness are refused; of the rest, {len(kill_count.unexplained(far))} are not "
                 "explained. ")
    empty = sum(row["state"] == "refused" for row in matrix["empty"])
    equal = [row for row in rows if row["kind"] == "equivalent"]
    passed = sum(row["state"] == "equivalent" for row in equal)
    text += (f"Controls: {empty} of {len(matrix['empty'])} empty kernels refused, {passed} of "
             f"{len(equal)} files with a change that does not matter accepted")
    if "honest" in whole:
        honest = whole["honest"]["rows"]
        text += (f", {sum(len(row['refused']) for row in honest)} of "
                 f"{sum(row['proofs'] for row in honest)} proofs of {len(honest)} honest variants "
                 "are false accusations")
    reused = f", {run['reused']} results from earlier runs" if run["reused"] else ""
    return text + (f". ({run['date']}, {run['machine']}, {run['seconds'] / 60:.0f} minutes{reused};"
                   f" commit {run['commit']}.)")


def _not_killed(rows: list[Mapping]) -> str:
    """Survivors first, each with its witness and what would catch it."""
    left = [row for row in kill_count.mutants(rows) if row["state"] != "killed-by"]
    if not left:
        return "Nothing: every mutant with a witness was refused."
    left.sort(key=lambda row: list(STATES).index(row["state"]) if row["state"] in STATES else 0)
    table = _table(("mutant", "bug", "state", "witness", "why, and what would catch it"),
                   ((f"`{row['name']}`", row["bug"], row["state"], _short(_seen(row)),
                     row["why"] or "**not explained**") for row in left))
    words = [f"*{state}*: {STATES[state]}." for state in STATES
             if any(row["state"] == state for row in left)]
    return f"{table}\n\n{' '.join(words)}"


def _seen(row: Mapping) -> str:
    """Its witness, or the launches at which none was looked for, since they take too long."""
    left = row.get("left", [])
    return row["witness"] or (f"too long for a look: {len(left)}, {left[0]}" if left else "")


def _checks(matrix: Mapping) -> str:
    found = kill_count.by_check(matrix["rows"], matrix["rejects"])
    rows = []
    for name, n in found.items():
        what, reason = kill_count.CHECKS.get(name, kill_count.GUARD)
        kept = "" if n["unique"] or n["unique_rejects"] else reason or "**no reason given**"
        deep = " (deep)" if name in more_checks.BY_NAME else ""
        rows.append((f"`{name}`{deep}", what, n["kills"], n["unique"], n["rejects"],
                     n["unique_rejects"], round(n["seconds"], 1), kept))
    rows.sort(key=lambda row: (-row[3], -row[2]))
    return _table(("check", "what it looks at", "kills", "alone", "whole files", "alone", "seconds",
                   "why it stays, where nothing falls to it alone"), rows)


def _shares(rows: list[Mapping], key: str, names: Mapping[str, str] | None = None) -> str:
    """Killed and judged by family or operation."""
    table = []
    for name, states in kill_count.tally(rows, key).items():
        other = ", ".join(f"{n} {s}" for s, n in states.most_common() if s != "killed-by")
        table.append(((names or {}).get(name, name), sum(states.values()), states["killed-by"],
                      other))
    return _table((key, "mutants", "killed", "not killed"), table)


def _named(rows: list[Mapping]) -> str:
    """How often `compare.py --bisect` names the place of a wrong step or trainer."""
    asked = [row for row in kill_count.mutants(rows) if row.get("culprit_named") is not None]
    missed = [f"`{row['name']}`" for row in asked if not row["culprit_named"]]
    text = (f"`compare.py --bisect` names the right place for {len(asked) - len(missed)} of "
            f"{len(asked)} mutants of steps and trainer that change a buffer")
    return f"{text}; not for {', '.join(missed)}." if missed else f"{text}."


def _controls(whole: Mapping) -> str:
    matrix = whole["matrix"]
    lines = [f"* Empty kernels, one for each operation, direction and language: "
             f"{sum(row['state'] == 'refused' for row in matrix['empty'])} of "
             f"{len(matrix['empty'])} refused."]
    for kind, what in (("equivalent", "Changes that do not matter"),
                       ("honest", "Honest variants, by all checks")):
        rows = [row for row in matrix["rows"] if row["kind"] == kind]
        lines.append(f"* {what}: {sum(row['state'] == 'equivalent' for row in rows)} of "
                     f"{len(rows)} accepted.")
    if "honest" in whole:
        rows, seeds = whole["honest"]["rows"], whole["honest"]["seeds"]
        spread = "for each of" if whole["honest"]["each"] else "over all"
        lines.append(f"* Honest variants over {seeds} seeds {spread} {len(rows)} variants: "
                     f"{sum(row['proofs'] for row in rows)} proofs on drawn shapes and values, "
                     f"{sum(len(row['refused']) for row in rows)} false accusations.")
        lines += [f"  * `{row['name']}`: {fault}" for row in rows for fault in row["refused"]]
    void = kill_count.controls(matrix)
    lines.append("* The run counts." if not void else "* **The run is void**: " + "; ".join(void))
    return "\n".join(lines)


def _cuda(whole: Mapping) -> str:
    """Mutants that only a GPU tells from the right file; they are counted nowhere else."""
    rows = on_a_gpu(whole)
    states = Counter(row["state"] for row in rows)
    table = _table(("mutant", "bug", "state", "by", "witness", "why it needs a GPU"),
                   ((f"`{row['name']}`", row["bug"], row["state"], ", ".join(row["by"]),
                     _short(row["witness"]), row["why"]) for row in rows))
    said = ", ".join(f"{n} {s}" for s, n in states.most_common()) or "none"
    return f"{said}. `make mutants ARGS=\"--device cuda --write\"` runs them.\n\n{table}"


def _list(rows: Iterable[Mapping]) -> str:
    return _table(("mutant", "family", "bug", "device", "state", "killed by", "witness"),
                  ((f"`{row['name']}`", row["family"], row["bug"], _where(row), row["state"],
                    ", ".join(row["by"]), _short(row["witness"])) for row in rows))


def _where(row: Mapping) -> str:
    place = row["device"] if row["device"] in ("host", "cpu") else f"{row['device']} {row['dtype']}"
    return place if row.get("tier", "fast") == "fast" else f"{place}, deep"


def _rejects(rows: Iterable[Mapping]) -> str:
    return _table(("file", "device", "bug", "the check it names", "refused by"),
                  ((f"`{row['name']}`", _where(row), row["bug"], row["named"],
                    ", ".join(row["by"]) or "**nothing**") for row in rows))


def page(whole: Mapping) -> str:
    """The page as Markdown."""
    if "matrix" not in whole:
        return f"{HEAD}\n{figures(whole)}\n"
    matrix = whole["matrix"]
    rows = sorted(matrix["rows"], key=lambda row: row["name"])
    parts = [
        ("What is not killed", _not_killed([*rows, *on_a_gpu(whole)])),
        ("Controls", _controls(whole)),
        ("What each check kills", "`alone`: no other check that was asked refuses these. "
         "`whole files`: the same of checks/rejects. Seconds are those of one core over all "
         "mutants; a check without seconds looks on while others run. Checks marked (deep) are the "
         "deep tier's own, which tries what the fast one accepts. Where a buffer changes, "
         "compare.py is asked first, and tests of the trainer only where it accepts a mutant, the "
         "quickest first and none after two that refuse. Of a mutant kernel, `artifact` and `size` "
         "are asked only where nothing else refuses, the deep tier's other checks included: what "
         "another check has alone, these two might refuse as well. `sanitizers` are asked no more "
         "once two kinds of checks refuse (`gate`, `shapes` and `values` are one kind)."
         f"\n\n{_checks(matrix)}"),
        ("By family of bugs", f"{_shares(rows, 'family', FAMILIES)}\n\n{_named(rows)}"),
        ("By operation", _shares(rows, "operation")),
        ("What needs a GPU", _cuda(whole)),
        ("Every mutant", "`emulated`: CUDA source, compiled for the processor, every thread "
         f"emulated. `host`: training code and benchmarks.\n\n{_list(rows)}"),
        ("Wrong kernels as whole files", _rejects(matrix["rejects"]))]
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in parts)
    return f"{HEAD}\n{figures(whole)}\n\n{body}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write golden/kill_matrix.md")
    if parser.parse_args().write:
        PAGE.write_text(page(load()))
    elif not PAGE.is_file() or PAGE.read_text() != page(load()):
        print("golden/kill_matrix.md is not what golden/kill_matrix.json gives; write it with "
              "`python -m checks.kill_page --write`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
