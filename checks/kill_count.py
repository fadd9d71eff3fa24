"""What the rows of the kill matrix add up to: shares, kills and unique kills of every check, and
whether the controls hold.

The gate is the comparator of many checks: what it refuses on plain numbers counts for `shapes` too,
and on the other families for `values`. So a kill is unique to `shapes` or `values` where no other
kind of check shares it, and unique to the gate where it is those three alone.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from checks.court_verdict import ALL
from checks.trial import WITH_THE_GATE

SHARE = 0.98  # of those with a witness, that must be killed
WITNESSED = ("killed-by", "survived", "crashed", "timed-out")
SET_UP = "(set-up)"  # the phase of a proof that belongs to no check
# What each check does, and what it is for where no mutant falls to it alone.
CHECKS = {
    "gate": ("every element against float64, within a measured bound; against stock; bias",
             "the comparator of most other checks"),
    "shapes": ("the gate on plain numbers at sizes where kernels break",
               "it is where the gate looks; without it there would be one shape"),
    "values": ("the gate on rows of every kind: outliers, infinities, denormals, ...",
               "it is where the gate looks; without it there would be one kind of numbers"),
    "poison": ("what stood in outputs and scratch has no influence",
               "says why a result is wrong where other checks only say that it is"),
    "accumulate": ("sums add to what stands there, once; all else overwrites",
                   "the one check that begins from sums that are not zero"),
    "frozen": ("inputs keep their bits", "costs nothing: every launch is looked at"),
    "guards": ("nothing beside a buffer is written, or read with effect",
               "writes cost nothing: every launch is looked at"),
    "pointers": ("any element of memory may be a buffer's first",
                 "the one check that leaves aligned places on a processor"),
    "exact": ("whole numbers whose sums are exact come out exact",
              "the one check without a bound: it holds where a bound would be too wide"),
    "self_test": ("the gate refuses results that are wrong on purpose",
                  "it tests the prover, not kernels: where the gate is blind, the proof is void"),
    "laws": ("rows do not meet, gradients are linear, NaN spreads as in the mathematics",
             "the one check that plants NaN and infinities in inputs"),
    "three_ways": ("the explicit function agrees with stock PyTorch in float64",
                   "it tests the truth that kernels are held against, not kernels"),
    "nothing_trivial": ("no output is one number throughout in every case",
                        "it tests the cases, not kernels: a trivial truth would prove nothing"),
    "claims": ("what is promised of threads and batches, bit for bit",
               "promises are bits, which no bound on errors sees"),
    "sequence": ("calls do not know of each other: other contents, shapes, places, many calls",
                 "the one check that calls a kernel more than a few times"),
    "inplace": ("an output may lie on an input where the file says so",
                "few files say so; nothing else tries it"),
    "launch": ("the device refuses no launch", "a launch that fails ends a proof at once"),
    "schedule": ("threads and blocks in other orders give the same",
                 "says which order shows a race that a sanitizer names"),
    "sanitizers": ("every access inside its buffer, of written memory, ordered",
                   "names the line of the source, where others see a wrong number"),
    "scalars": ("constants and scalars over decades, betas near one at a million steps",
                "the one check that leaves the usual constants"),
    "extremes": ("NaN and infinities beside the largest and smallest of other inputs",
                 "sees units that are skipped because they are dead"),
    "largest": ("rows near the end of float32",
                "what lies behind a row, taken times zero, is zero times infinity there"),
    "smallest": ("rows whose squares are near the least of float32",
                 "the one check whose squares are small and still not nothing"),
    "races": ("every access of every thread of a C kernel, ordered against the others'",
              "elsewhere a race on a processor shows only by luck of timing"),
    "late": ("one thread after the other comes late, in teams of up to 70",
             "sees what is still written after the return, and too small rooms for many threads"),
    "environment": ("fewer threads than asked for, dirty heap and stack, 70 000 calls, leaks",
                    "nothing else changes what a kernel finds around it"),
    "leftovers": ("scratch and outputs stay as a call on nearly the same inputs left them",
                  "elsewhere scratch is filled anew before each launch"),
    "round": ("sizes that tiles divide, all axes beyond a tile at once, even teams",
              "the one check of round sizes beyond 256, and of several blocks in each direction"),
    "size": ("indices beyond 2^16, 2^24 and 2^31, launches larger than any grid",
             "the one check whose tensors are large"),
    SET_UP: ("float64 truth, compiling, and the first launch of each case", "no check"),
    "artifact": ("what the compiled code says, against the claims",
                 "sees the code that a GPU would run, which nothing else here does"),
    "processors": ("the gate on devices of 1, 37, 132 and 260 multiprocessors",
                   "loops over blocks' parts turn once on the emulated device's own 4"),
    "pipelines": ("gate, schedules and races where loads run several stages ahead",
                  "the one place where rooms of asynchronous copies are used again"),
    "draws": ("random rounding: steps, seeds and neighbours share no bits",
              "the one check that holds launches of other steps and seeds together"),
}

# What is no kernel is judged by tests of the suite and by compare.py (guards.py).
GUARD = ("tests of the trainer, the program, the bench or the cuda device",
         "part of the suite, whatever a mutant shows")


def mutants(rows: Iterable[Mapping]) -> list[Mapping]:
    """Those that count: wrong ones that were judged here."""
    return [row for row in rows if row["kind"] == "mutant" and row["state"] != "not run here"]


def witnessed(rows: Iterable[Mapping]) -> list[Mapping]:
    return [row for row in mutants(rows) if row["state"] in WITNESSED]


def killed(rows: Iterable[Mapping]) -> list[Mapping]:
    return [row for row in mutants(rows) if row["state"] == "killed-by"]


def share(rows: Iterable[Mapping]) -> float:
    """Killed among those with a witness; 0 where there is none."""
    rows = list(rows)
    return len(killed(rows)) / max(len(witnessed(rows)), 1)


def unexplained(rows: Iterable[Mapping]) -> list[Mapping]:
    """What was judged and not killed, and says nothing of why."""
    return [row for row in mutants(rows) if row["state"] != "killed-by" and not row["why"]]


def alone(by: Iterable[str]) -> str:
    """The check that has a kill for itself; empty where several share it."""
    by = set(by)
    if len(by) > 1 and by <= WITH_THE_GATE:
        return "gate" if {"shapes", "values"} <= by else (by - {"gate"}).pop()
    return next(iter(by)) if len(by) == 1 else ""


def of_tier(rows: Iterable[Mapping], tier: str) -> list[Mapping]:
    """Those that the checks of a tier killed; what the fast tier kills, no other is asked."""
    return [row for row in killed(rows) if row.get("tier", "fast") == tier]


def by_check(rows: Iterable[Mapping], rejects: Iterable[Mapping] = ()) -> dict[str, dict]:
    """Of each check: kills, unique kills, seconds, and the same of whole-file rejects."""
    found: dict[str, dict] = {}
    names = [*ALL, *(name for row in rows for name in (*row["by"], *row["ran"])), SET_UP]
    for name in dict.fromkeys(names):
        found[name] = {"kills": 0, "unique": 0, "seconds": 0.0, "ran": 0, "rejects": 0,
                       "unique_rejects": 0}
    for group, words in ((killed(rows), ("kills", "unique")),
                         (rejects, ("rejects", "unique_rejects"))):
        for row in group:
            for name in row["by"]:
                found[name][words[0]] += 1
            if alone(row["by"]) and not row.get("stopped"):
                found[alone(row["by"])][words[1]] += 1
    for row in rows:
        for phase, seconds in row["ran"].items():
            name = SET_UP if phase == "launch" else phase
            found[name]["seconds"] += seconds
            found[name]["ran"] += 1
    return found


def tally(rows: Iterable[Mapping], key: str) -> dict[str, Counter]:
    """States by family, operation or direction, of those that count."""
    found: dict[str, Counter] = defaultdict(Counter)
    for row in mutants(rows):
        found[row[key]][row["state"]] += 1
    return dict(sorted(found.items()))


def controls(matrix: Mapping, whole: bool = True) -> list[str]:
    """What makes the run void: one sentence each. `whole`: a full run, where none may lack."""
    wrong = [f"an empty kernel was not refused: {row['name']} ({row['state']})"
             for row in matrix["empty"] if row["state"] != "refused"]
    equal = [row for row in matrix["rows"] if row["kind"] == "equivalent"]
    wrong += [f"an equivalent mutant is {row['state']}: {row['name']} ({row['first']})"
              for row in equal if row["state"] not in ("equivalent", "not run here")]
    honest = [row for row in matrix["rows"] if row["kind"] == "honest"]
    wrong += [f"an honest variant is {row['state']}: {row['name']} ({row['first']})"
              for row in honest if row["state"] not in ("equivalent", "not run here")]
    if whole:
        wrong += [f"no {what} was run" for what, rows in (
            ("empty kernel", matrix["empty"]), ("equivalent mutant", equal),
            ("honest variant", honest)) if not rows]
    return wrong


def short(matrix: Mapping, whole: bool = True) -> list[str]:
    """What falls short of what the matrix has to show: one sentence each. Of a few mutants no share
    is asked."""
    rows, wrong = matrix["rows"], []
    if whole and witnessed(rows) and share(rows) < SHARE:
        wrong.append(f"{len(killed(rows))} of {len(witnessed(rows))} with a witness are killed, "
                     f"{share(rows):.1%}; at least {SHARE:.0%} must be")
    wrong += [f"{row['state']}, and no `why` says why: {row['name']}" for row in unexplained(rows)]
    wrong += [f"a whole-file reject is not refused: {row['name']}"
              for row in matrix["rejects"] if row["state"] != "killed-by"]
    return wrong
