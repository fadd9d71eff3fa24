"""The verdict of verify_verdict.py as one page: self-contained, light and dark, figures drawn.

Figures are rows of small SVGs whose places are percentages, so that they keep their text's size on
a phone. Errors stand on a logarithmic axis against the bound, which is 1.
"""

import math
import re
from collections.abc import Mapping
from html import escape

from checks import explained
from checks.verify_style import STYLE
from checks.verify_text import EQUAL, NARROW, against, busy, by_output, made_with, number, on, told
from checks.verify_text import seconds as time_of
from checks.verify_text import shape as shape_of

LOW, HIGH = 0.01, 1e6  # of an error over its bound: what is beyond stands at the edge
ELEMENTS = 8  # written out beside a picture
WORDS = {"proved": "Proved", "refused": "Refused", "error": "Not judged"}
INTRO = ("A kernel is a small program that computes one operation of a neural network, here by "
         "hand and for speed. This page says whether the file below computes what it should. Every "
         "result was compared, element by element, with the same operation in float64; the bound "
         "on each element's error is what honest arithmetic of this precision makes there, "
         "measured, not chosen.")


def page(verdict: Mapping) -> str:
    """The whole page."""
    word, name = verdict["verdict"], verdict["file"]["name"]
    parts = [_head(verdict), _tiles(verdict)]
    parts += [_why(proof) for proof in verdict["proofs"] if proof["refusals"]]
    parts += [_errors(proof) for proof in verdict["proofs"] if proof["errors"]]
    parts += [_times(verdict["timings"]) if verdict["timings"] else "", _checks(verdict["proofs"]),
              _not_checked(verdict["not_checked"]), _again(verdict)]
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{WORDS[word]}: {escape(name)}</title>\n<style>{STYLE}</style></head>\n"
            f'<body><main class="{word}">\n' + "\n".join(filter(None, parts))
            + "\n</main></body></html>")


def section(title: str, *parts: str, note: str = "") -> str:
    """A part of the page under a heading, with what it means beneath."""
    said = f'<p class="note">{note}</p>' if note else ""
    return f"<section><h2>{title}</h2>{said}\n" + "\n".join(parts) + "</section>"


def _head(verdict: Mapping) -> str:
    operation = verdict["operation"]
    return (f'<header><p class="badge">{WORDS[verdict["verdict"]]}</p>'
            f'<h1>{escape(verdict["file"]["name"])}</h1>'
            f'<p class="lead"><b>{escape(operation["name"])}</b> &middot; '
            f'{escape(operation["says"])}</p><p>{escape(verdict["message"])}.</p>'
            f'<p class="note">{INTRO}</p></header>')


def _tiles(verdict: Mapping) -> str:
    proofs, timings = verdict["proofs"], verdict["timings"]
    checks = [check for proof in proofs for check in proof["checks"]]
    ran = {check["name"] for check in checks if check["examples"]}
    failed = {check for proof in proofs for check in proof["refused"]}
    worst = [proof["errors"][0]["worst"] for proof in proofs if proof["errors"]]
    tiles = [(f"{sum(c['examples'] for c in checks):,}", "examples judged"),
             (f"{len(ran - failed)} of {len(ran | failed)}", "checks passed")]
    if worst:
        tiles.append((ratio(max(worst, key=float)), "worst error over its bound (1 is the limit)"))
    if timings:
        best = min(timings, key=lambda t: t["seconds"])
        peer = min(best["peers"].values(), default=None)
        tiles.append((time_of(best["seconds"]), f"at {shape_of(best['axes'])}"))
        if peer is not None:
            doubt = " (other work ran beside: says little)" if busy(best) else ""
            tiles.append((f"{peer / best['seconds']:.2f}&times;",
                          "PyTorch's time over this file's" + doubt))
        tiles.append((f"{best['share']:.0%}", "of what the hardware allows (roofline)"))
    return '<div class="tiles">' + "".join(
        f"<div><b>{value}</b><span>{escape(what)}</span></div>" for value, what in tiles) + "</div>"


def ratio(value) -> str:
    """An error over its bound; without an end where a NaN stands, or a rule has no bound."""
    return "&infin;" if value == "inf" else number(value)


def _where(proof: Mapping) -> str:
    return escape(f"{proof['device']}, {proof['precision']}")


def _why(proof: Mapping) -> str:
    """The refusals of one proof, the simplest first, and the picture of one."""
    first, others = told(proof)
    parts = []
    for order, refusal in enumerate(first):
        checks = ", ".join(refusal["checks"])
        parts.append(f'<div class="refusal"><h3>{escape(checks)}</h3><pre class="found">'
                     f'{escape(refusal["found"])}</pre>')
        if refusal["parameters"]:
            parts.append(f"<p>configuration: {escape(shape_of(refusal['parameters']))}</p>")
        if refusal["case"]:
            parts.append(f"<p>Simplest case found: <code>{escape(refusal['case'])}</code>. This "
                         f'replays it:</p><pre>{escape(refusal["replay"])}</pre>')
        parts.append("</div>")
        if order == 0 and proof["picture"]:
            parts.append(_picture(proof["picture"]))
    if others:
        parts.append(f"<p>Refused as well: {escape(others)}.</p>")
    return section(f"Why it is refused: {_where(proof)}", *parts)


def _picture(picture: Mapping) -> str:
    """Which elements are wrong, and what stands there."""
    rows, columns = len(picture["found"]), len(picture["found"][0])
    top, left = picture["at"]
    cells, listed = [], []
    for i in range(rows):
        for j in range(columns):
            found, expected, bound = (picture[k][i][j] for k in ("found", "expected", "bound"))
            wrong = picture["wrong"][i][j]
            place = f"{picture['output']}[{top + i}, {left + j}]"
            cells.append(f'<rect x="{j + .06}" y="{i + .06}" width=".88" height=".88" rx=".14" '
                         f'class="{"bad" if wrong else "good"}"><title>{escape(place)}: found '
                         f"{found}, expected {expected}</title></rect>")
            if wrong and len(listed) < ELEMENTS:
                listed.append(f"<tr><td>{escape(place)}</td><td>{_exact(found)}</td>"
                              f"<td>{_exact(expected)}</td><td>{_short(bound)}</td></tr>")
    size = " &times; ".join(map(str, picture["shape"]))
    part = "" if [rows, columns] == picture["size"] else f", a window of {rows} &times; {columns}"
    return (f'<figure><figcaption><b>{escape(picture["output"])}</b> ({size}{part}) at '
            f'<code>{escape(picture["case"])}</code>: {picture["wrong_in_all"]} of '
            f'{math.prod(picture["shape"])} elements beyond their bound (<span class="key bad">'
            f'</span>&nbsp;wrong, <span class="key good"></span>&nbsp;right)</figcaption>'
            f'<svg class="grid" style="max-width:{columns * 30}px" '
            f'viewBox="0 0 {columns} {rows}">{"".join(cells)}</svg><div class="wide"><table>'
            f"<tr><th>element</th><th>found</th><th>expected</th><th>allowed &plusmn;</th></tr>"
            f'{"".join(listed)}</table></div></figure>')


def _exact(value) -> str:
    return value if isinstance(value, str) else f"{value:.9g}"


def _short(value) -> str:
    return value if isinstance(value, str) else f"{value:.2e}"


def place_on(value, high: float) -> float:
    """Percent of the axis from LOW to `high` at which a value stands."""
    value = float(value)
    if not value > LOW:
        return 0.0 if value <= LOW else 100.0
    return min(100.0, 100 * math.log10(value / LOW) / math.log10(high / LOW))


def _mark(kind: int, x: float, title: str) -> str:
    """A dot of an output: its colour and its form."""
    forms = ('<circle r="4.5"/>', '<rect x="-4" y="-4" width="8" height="8"/>',
             '<path d="M0-5.5 5.5 0 0 5.5-5.5 0Z"/>', '<path d="M0-5 5 4H-5Z"/>')
    return (f'<svg x="{x:.2f}%" y="50%" overflow="visible" class="mark c{kind % 6}">'
            f"{forms[kind % 4]}<title>{escape(title)}</title></svg>")


def _rows(named: Mapping[str, list], says: Mapping[str, str], kinds: list[str], high: float) -> str:
    """A row of dots for each name, against the bound."""
    ticks = [10.0**n for n in range(-2, round(math.log10(high)) + 1)]
    bound = place_on(1.0, high)
    lines = "".join(f'<line x1="{place_on(t, high):.2f}%" x2="{place_on(t, high):.2f}%" y1="0" '
                    f'y2="100%" class="{"bound" if t == 1 else "tick"}"/>' for t in ticks)
    beyond = f'<rect x="{bound:.2f}%" width="{100 - bound:.2f}%" height="100%" class="beyond"/>'
    made = []
    for name, errors in named.items():
        worst = max((e["worst"] for e in errors), key=float)
        marks = "".join(_mark(kinds.index(e["output"]), place_on(e["worst"], high),
                              f"{e['output']}: {number(e['worst'])} of its bound at {e['case']}")
                        for e in errors)
        made.append(f'<div class="row"><span class="label" title="{escape(says[name])}">'
                    f'{escape(name)}</span><svg class="track">{beyond}{lines}{marks}</svg>'
                    f'<span class="value{" bad" if not float(worst) <= 1 else ""}">'
                    f"{ratio(worst)}</span></div>")
    shown = ticks if len(ticks) < 6 else ticks[::2]
    axis = "".join(f'<span style="left:{place_on(t, high):.2f}%">{_tick(t)}</span>' for t in shown)
    return (f'<div class="rows">{"".join(made)}<div class="row axis"><span></span>'
            f'<div class="ticks">{axis}</div><span></span></div></div>')


def _tick(value: float) -> str:
    return "bound" if value == 1 else f"{value:g}" if value < 1e4 else (
        f"10<sup>{round(math.log10(value))}</sup>")


def _errors(proof: Mapping) -> str:
    """Dots against the bound, by check and by family of numbers."""
    kinds = sorted({error["output"] for error in proof["errors"]})
    finite = [float(e["worst"]) for e in proof["errors"] if math.isfinite(float(e["worst"]))]
    high = min(HIGH, 10.0 ** max(1, math.ceil(math.log10(max([1.0, *finite]) * 1.01))))
    high = HIGH if len(finite) < len(proof["errors"]) else high
    by_check, by_family = {}, {}
    for check in explained.CHECKS:
        mine = [e for e in proof["errors"] if e["check"] == check]
        if mine:
            by_check[check] = list(by_output(mine).values())
    for family in explained.FAMILIES:
        mine = [e for e in proof["errors"] if e["family"] == family]
        if mine:
            by_family[family] = list(by_output(mine).values())
    key = " ".join(f'<span class="entry"><svg width="14" height="14">{_mark(k, 50, name)}</svg>'
                   f"{escape(name)}</span>" for k, name in enumerate(kinds))
    note = ("Each dot is the worst element of one output, over all examples of a row; left of the "
            "bound is accepted, the shaded side is refused; at the edges stands what is beyond "
            "them. Point at a dot for its case.")
    note += f" In bfloat16: {NARROW}." if proof["precision"] == "bfloat16" else ""
    legend = "".join(f"<dt>{name}</dt><dd>{escape(explained.FAMILIES[name])}</dd>"
                     for name in by_family)
    return section(
        f"Error over its bound: {_where(proof)}", f'<p class="keys">{key}</p>', "<h3>by check</h3>",
        _rows(by_check, explained.CHECKS, kinds, high), "<h3>by kind of numbers</h3>",
        _rows(by_family, explained.FAMILIES, kinds, high),
        f"<details><summary>what these kinds are</summary><dl>{legend}</dl></details>", note=note)


def _times(timings: list[Mapping]) -> str:
    """Bars: this file, PyTorch, and the least time that the hardware allows."""
    parts = []
    for timing in timings:
        every = {"this file": timing["seconds"],
                 **{re.sub(r" \d\S*", "", name): s for name, s in timing["peers"].items()}}
        longest = max(every.values())
        floor = 100 * timing["seconds"] * min(timing["share"], 1) / longest
        bars = "".join(
            f'<div class="row"><span class="label">{escape(name)}</span><svg class="track bar">'
            f'<rect width="{100 * value / longest:.2f}%" height="16" y="4" rx="3" '
            f'class="{"ours" if name == "this file" else "theirs"}"/><line x1="{floor:.2f}%" '
            f'x2="{floor:.2f}%" y1="0" y2="100%" class="floor"/></svg>'
            f'<span class="value">{time_of(value)}</span></div>' for name, value in every.items())
        where = f"{timing['device']}, {timing['precision']}, {shape_of(timing['axes'])}"
        where += f"; {shape_of(timing['parameters'])}" if timing["parameters"] else ""
        said = [f"{'; '.join(against(timing))}: {timing['verdict']}" if timing["peers"] else
                "PyTorch has nothing to time here",
                f"{timing['share']:.0%} of the roofline ({timing['roof']})",
                EQUAL if timing["digest"] == "equal" else "", timing["fault"], busy(timing)]
        parts.append(f'<h3>{escape(where)}</h3><div class="rows">{bars}</div>'
                     f'<p class="note">{escape("; ".join(filter(None, said)))}.</p>')
    return section("Time", *parts, note=(
        "Medians of rounds in random order, over buffers that no private cache holds. The line is "
        "the roofline: the least time in which this machine, as measured in this run, moves the "
        "bytes and does the arithmetic that the operation needs."))


def _checks(proofs: list[Mapping]) -> str:
    """What each check is, and how often it ran at each place."""
    ran = [proof for proof in proofs if proof["checks"]]
    if not ran:
        return ""
    rows = []
    by_name = [{check["name"]: check for check in proof["checks"]} for proof in ran]
    for name in (name for name in explained.CHECKS if any(name in known for known in by_name)):
        cells = []
        for known in by_name:
            check = known.get(name, {"worst": None, "refused": 0, "examples": 0})
            worst = "" if check["worst"] is None else f", {ratio(check['worst'])}"
            mark = ("&#10007;" if check["refused"] else "&#10003;" if check["examples"]
                    else "&ndash;")
            kind = "bad" if check["refused"] else "good" if check["examples"] else "idle"
            cells.append(f'<td class="num"><span class="{kind}">{mark}</span> '
                         f'{check["examples"] or "not run"}{worst}</td>')
        rows.append(f"<tr><td><b>{name}</b><br><span>{escape(explained.CHECKS[name])}</span></td>"
                    + "".join(cells) + "</tr>")
    heads = "".join(f'<th class="num">{_where(proof)}</th>' for proof in ran)
    return section("What was checked", f'<div class="wide"><table class="checks"><tr><th>check</th>'
                   f'{heads}</tr>{"".join(rows)}</table></div>', note=(
                       "The number of examples, and the worst error over its bound where the check "
                       "has one."))


def _not_checked(listed: list[Mapping]) -> str:
    rows = "".join(f"<li><b>{escape(one['what'])}</b>: "
                   + re.sub("`([^`]+)`", r"<code>\1</code>", escape(one["why"]))
                   + (f" <i>({escape(one['where'])})</i>" if one["where"] else "") + "</li>"
                   for one in listed)
    return section("What was not checked", f"<ul>{rows}</ul>")


def _again(verdict: Mapping) -> str:
    file, machine, asked = verdict["file"], verdict["machine"], verdict["asked"]
    rows = {"file": f"{file['path']}, {file['lines']} lines", "SHA-256": file["sha256"],
            "directives": "; ".join(file["directives"]), "machine": on(machine),
            "made with": made_with(machine),
            "asked": f"the {asked['tier']} tier, seed {asked['seed']}"
            + (f", one case: {asked['case']}" if asked["case"] else "")}
    listed = "".join(f"<dt>{name}</dt><dd>{escape(row)}</dd>" for name, row in rows.items() if row)
    return section("The same again", f"<pre>{escape(verdict['command'])}</pre>",
                   f"<dl>{listed}</dl>", note="From a checkout of Trivium, this judges it anew:")
