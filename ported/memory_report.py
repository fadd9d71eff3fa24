"""What a memory plan says to a reader: the table, the peak by name, and advice where it is too big.

Savings are estimates by lifetimes: what a rewrite of `reference.rewrites` would shorten is
shortened, and the most bytes that live at one step are counted again.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase

from ported.memory import Item, Plan, live_bytes, lower_bound
from reference.rewrites import RECOMPUTE

TOP = 5


def size(nbytes: float) -> str:
    """Bytes for people: `1.50 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.2f} GiB"


def peak(plan: Plan) -> tuple[str, int, list[Item]]:
    """The step at which most bytes live: its name, the bytes, and the items, largest first."""
    live = live_bytes(plan.items)
    sequence = max(live, key=lambda name: live[name].max())
    time = int(live[sequence].argmax())
    name, k = plan.timeline[sequence][time]
    items = [item for item in plan.items if sequence in item.lives
             and item.lives[sequence][0] <= time <= item.lives[sequence][1]]
    step = f"{name}, step {k + 1} of {len(plan.program.passes[name])}, "
    step += str(plan.program.passes[name][k])
    return step, int(live[sequence][time]), sorted(items, key=lambda i: (-i.nbytes, i.name))


def table(plan: Plan) -> str:
    """Kinds and bytes, how tight the transient part is, its peak by name, possible savings."""
    rows = [(kind, f"{count} buffers" if count > 1 else "1 buffer", nbytes)
            for kind, (count, nbytes) in _kinds(plan).items()]
    summed = sum(item.nbytes for item in plan.items)
    rows.append(("activations and scratch", f"{len(plan.items)} in {size(summed)}", plan.transient))
    lines = [f"memory plan: {size(plan.nbytes)} in one allocation"]
    lines += [f"  {kind:<24}{count:>22}{size(nbytes):>12}" for kind, count, nbytes in rows]
    if not plan.items:
        return "\n".join(lines)
    step, live, items = peak(plan)
    lines.append(f"  transient part: lower bound {size(plan.bound)}, {plan.efficiency:.1%} tight; "
                 f"{len(plan.shared)} outputs lie on an input")
    lines.append(f"  peak at {step}: {size(live)}")
    lines += [f"    {item.name:<34}{size(item.nbytes):>12}" for item in items[:TOP]]
    rest = sum(item.nbytes for item in items[TOP:])
    if rest:
        lines.append(f"    {f'and {len(items) - TOP} more':<34}{size(rest):>12}")
    saved = [f"{name} {size(nbytes)}" for name, nbytes in savings(plan).items() if nbytes]
    if saved:
        lines.append(f"  would save about: {', '.join(saved)}")
    return "\n".join(lines)


def _kinds(plan: Plan) -> dict[str, tuple[int, int]]:
    count, nbytes = Counter(), Counter()
    for buffer in plan.program.buffers.values():
        if buffer.kind != "activation" and buffer.region is None:
            members = sum(b.region == buffer.name for b in plan.program.buffers.values())
            count[buffer.kind] += members or 1
            nbytes[buffer.kind] += plan.nbytes_of[buffer.name]
    return {kind: (count[kind], nbytes[kind]) for kind in count}


def savings(plan: Plan) -> dict[str, int]:
    """Bytes that each recomputation, and the head in chunks, would take off the peak (about)."""
    found = {}
    for word, glob in RECOMPUTE.items():
        found[f"recompute {word}"] = _saved(plan, _recomputed(plan, glob))
    rows = plan.program.sizes.get("N", 1)
    chunks = next((k for k in (8, 4, 2) if rows % k == 0), 1)
    if chunks > 1 and "logits" in plan.offsets:
        whole = rows * plan.program.sizes.get("Vp", 0)
        if plan.program.buffers["logits"].size == whole:
            found[f"head_chunks {chunks}"] = _saved(plan, lambda item: [
                replace(item, nbytes=item.nbytes // chunks) if item.name == "logits" else item])
    return found


def _saved(plan: Plan, change: Callable[[Item], list[Item]]) -> int:
    return max(0, plan.bound - lower_bound([new for item in plan.items for new in change(item)]))


def _recomputed(plan: Plan, glob: str) -> Callable[[Item], list[Item]]:
    """Cuts what matches in two: its life in forward, and from its first use in backward on."""
    uses: dict[str, list[int]] = {}
    border = 0
    for time, (name, k) in enumerate(plan.timeline.get("training", ())):
        border = time + 1 if name in ("zero", "forward") else border
        step = plan.program.passes[name][k]
        for view in [*step.reads(), *step.writes()]:
            uses.setdefault(view.buffer, []).append(time)

    def cut(item: Item) -> list[Item]:
        taken = fnmatchcase(item.name, glob) and not item.name.endswith(".res_out")
        before = [t for t in uses.get(item.name, ()) if t < border]
        after = [t for t in uses.get(item.name, ()) if t >= border]
        if not (taken and before and after) or item.name in plan.shared.values():
            return [item]
        others = {name: life for name, life in item.lives.items() if name != "training"}
        return [replace(item, lives={**others, "training": (before[0], before[-1])}),
                replace(item, lives={"training": (after[0], after[-1])})]

    return cut


def refusal(plan: Plan, available: int) -> str:
    """Why a plan does not fit, and what would."""
    lines = [plan.table(), f"found {size(available)} of memory, expected {size(plan.nbytes)}"]
    B, room = plan.program.sizes.get("B", 1), available - plan.permanent
    fits = int(B * room / plan.transient) if plan.transient else 0
    if room <= 0:
        lines.append("parameters, gradients and optimizer state alone do not fit: take a smaller "
                     "model, or a machine with more memory")
        return "\n".join(lines)
    if 1 <= fits < B:
        fits = max(d for d in range(1, fits + 1) if B % d == 0)
        saves = size(plan.transient * (1 - fits / B))
        lines.append(f"a micro-batch of {fits} instead of {B} would fit (--micro-batch {fits} "
                     f"saves about {saves})")
    missing = plan.nbytes - available
    saved = {name: nbytes for name, nbytes in savings(plan).items() if nbytes}
    enough = [name for name, nbytes in saved.items() if nbytes >= missing]
    if enough:
        lines.append("each of these would make it fit: " + ", ".join(
            f"{_flag(name)} (saves about {size(saved[name])})" for name in enough))
    elif saved:
        lines.append(f"missing {size(missing)}; together they save less than their sum: "
                     + ", ".join(f"{_flag(name)} {size(n)}" for name, n in saved.items()))
    if not enough and fits < 1:
        lines.append("take shorter sequences (--sequence-length) or a smaller model")
    return "\n".join(lines)


def _flag(saving: str) -> str:
    """`recompute gelu` as it is typed: `--recompute gelu`."""
    return "--" + saving.replace("_", "-")
