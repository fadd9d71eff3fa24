"""The kill matrix: every mutant judged by the checks, and the controls that make it count.

    python -m checks.matrix                          all mutants, rejects, controls, honest variants
    python -m checks.matrix --write                  and writes golden/kill_matrix.json and .md
    python -m checks.matrix --only 'layernorm/*'     some mutants
    python -m checks.matrix --sample                 each family at least once, about two minutes
    python -m checks.matrix --honest --seeds 1000    honest variants alone, over so many seeds
    python -m checks.matrix --device cuda            those whose witness needs a GPU

Exit code 0: the controls hold, whatever is not killed is explained, and enough of those with a
witness are killed. Results are kept as they come; a later run judges what changed (`--anew`:
everything), so a run that was stopped goes on.
"""

import argparse
import datetime
import fnmatch
import itertools
import os
import random
import subprocess
import sys
import time
from collections import Counter

from checks import kill_count, kill_page, mutants, refusals, select
from checks.court import Store
from checks.courts import all_of
from checks.mutants import FAMILIES, Mutant
from ported import device as devices
from ported.contract import ROOT

SEEDS = 1000  # over all honest variants together, in a full run
CHUNK = 20  # seeds of a variant that are run in one go
SAMPLE = 15.0  # seconds of one core for a sample, by what the last full run took


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m checks.matrix",
                                     description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="a glob of names: 'layernorm*/backward_*'")
    parser.add_argument("--family", choices=list(FAMILIES))
    parser.add_argument("--sample", action="store_true", help="each family at least once")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--device", choices=("cuda",), help="those whose witness needs a GPU")
    parser.add_argument("--honest", action="store_true", help="honest variants alone")
    parser.add_argument("--seeds", type=int, default=SEEDS,
                        help=f"drawn over all honest variants together ({SEEDS})")
    parser.add_argument("--each", action="store_true", help="so many --seeds for each variant")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)),
                        help="so many judges side by side (the cores)")
    parser.add_argument("--anew", action="store_true", help="take nothing from earlier runs")
    parser.add_argument("--thorough", action="store_true",
                        help="ask all guards of the trainer, also once compare.py has refused")
    parser.add_argument("--write", action="store_true",
                        help="write golden/kill_matrix.json and the page of it")
    return parser


def line(row: dict) -> str:
    """One row as it is printed while the run goes on."""
    by = ", ".join(row["by"])
    what = f"by {by}" if by else row["first"] or row["witness"]
    return f"{row['state']:12} {row['name']:56} {row.get('total', row['seconds']):6.1f} s  {what}"


class Run:
    """One run of the command: what it judges, and what came of it."""

    def __init__(self, options):
        self.options = options
        self.store = Store(anew=options.anew, thorough=options.thorough)
        self.start = time.monotonic()

    @property
    def whole(self) -> bool:
        """Whether nothing is left out, so that the controls must be there."""
        return not (self.options.only or self.options.family or self.options.sample)

    def judged(self, tasks: list[tuple]) -> list[dict]:
        """The rows of tasks, each with the group that it belongs to."""
        done = itertools.count(1)

        def say(row: dict) -> None:
            print(f"{next(done):4}/{len(tasks)} {line(row)}"[:180], flush=True)

        return all_of([task for task, _ in tasks], [group for _, group in tasks],
                      self.options.jobs, self.store, self.options.device or "", say)

    def chosen(self) -> list[Mutant]:
        """The mutants asked for. ValueError where there is none."""
        options = self.options
        found = [m for m in mutants.read_all()
                 if fnmatch.fnmatch(m.label, options.only or "*")
                 and options.family in (None, m.family)
                 and (options.device != "cuda" or m.place == "cuda")]
        if options.sample:
            found = sampled(found, options.seed, seconds_of(kill_page.load()))
        if not found:
            raise SystemExit(f"no mutant matches --only {options.only} --family {options.family} "
                             f"--device {options.device}; {len(mutants.read_all())} are in "
                             "checks/mutants")
        return found

    def matrix(self) -> dict:
        """Mutants, whole-file rejects and empty kernels."""
        chosen = self.chosen()
        rejects = refusals.read_all(gpu=self.options.device == "cuda") if self.whole else []
        empty = self._first_versions()
        tasks = [(lambda court, m=m: court.judge(m), f"{m.operation} {m.direction} {m.place}")
                 for m in chosen]
        tasks += [(lambda court, r=r: court.reject(r), f"{r.operation} {r.direction} {r.device}")
                  for r in rejects]
        tasks += [(lambda court, v=v: court.empty(v), "empty") for v in empty]
        rows = self.judged(tasks)
        ends = (len(chosen), len(chosen) + len(rejects))
        return {"run": self.about(), "rows": rows[:ends[0]], "rejects": rows[ends[0]:ends[1]],
                "empty": rows[ends[1]:]}

    def _first_versions(self) -> list:
        """The first version of every operation, direction and language; of a sample, a few."""
        if self.options.device or not (self.whole or self.options.sample):
            return []
        found = [select.read(name, language)[0] for language in ("c", "cu")
                 for name in select.paths(language) if name.endswith("_01")]
        return found if self.whole else random.Random(self.options.seed).sample(found, 3)

    def honest(self) -> dict:
        """Every honest variant, over many seeds: how many proofs, and each that refused it."""
        variants = [m for m in mutants.read_all() if m.kind == "honest" and m.kernel
                    and fnmatch.fnmatch(m.label, self.options.only or "*")]
        seeds = range(1, self.options.seeds + 1)
        share = {m: list(seeds if self.options.each else seeds[k::len(variants)])
                 for k, m in enumerate(variants)}
        tasks = [(lambda court, m=m, part=part: court.honest(m, part), m.label)
                 for m, wanted in share.items()
                 for part in (wanted[k:k + CHUNK] for k in range(0, len(wanted), CHUNK))]
        rows: dict[str, dict] = {}
        for found in self.judged(tasks):
            row = rows.setdefault(found["name"], {**found, "proofs": 0, "seconds": 0.0,
                                                  "refused": [], "state": "", "by": []})
            row["proofs"] += found["proofs"]
            row["seconds"] = round(row["seconds"] + found["seconds"], 1)
            row["refused"] += found["refused"]
        return {"run": self.about(), "seeds": len(seeds), "each": self.options.each,
                "rows": list(rows.values())}

    def about(self) -> dict:
        """Where and when, how long, and how much was taken from earlier runs."""
        commit = subprocess.run(["git", "describe", "--always", "--dirty", "--exclude", "*"],
                                cwd=ROOT, capture_output=True, text=True).stdout.strip()
        processor = devices.open("cpu").processor.rpartition(" ")[0]  # without its flags' digest
        return {"date": datetime.date.today().isoformat(), "commit": commit,
                "machine": f"{self.options.jobs} cores, {processor}",
                "seconds": round(time.monotonic() - self.start), "reused": self.store.reused}


def seconds_of(known: dict) -> dict[str, float]:
    """What each mutant took in the run that is in the tree."""
    return {row["name"]: row.get("total", row["seconds"])
            for row in known.get("matrix", {}).get("rows", [])}


def sampled(found: list[Mutant], seed: int, took: dict[str, float]) -> list[Mutant]:
    """A few mutants: one of every family, kind and place, then more as long as SAMPLE lasts. Those
    that take long stay out, where the tree says how long each takes."""
    found = [m for m in found if m.place != "cuda"]
    random.Random(seed).shuffle(found)
    usual = {"host": 30.0, "emulated": 20.0}
    found.sort(key=lambda m: took.get(m.label, usual.get(m.place, 6.0)) > 12)
    chosen, left = [], SAMPLE
    for key in (lambda m: m.family, lambda m: m.kind, lambda m: m.place, lambda m: m.label):
        for mutant in found:
            cost = took.get(mutant.label, usual.get(mutant.place, 6.0))
            if key(mutant) in map(key, chosen) or (
                    key(mutant) == mutant.label and (cost > left or not mutant.kernel)):
                continue
            chosen.append(mutant)
            left -= cost
    return chosen


def told(matrix: dict, whole: bool) -> int:
    """Prints what a run found, worst first; 1 where it is void or falls short."""
    rows = matrix["rows"]
    for row in rows:
        if row["state"] not in ("killed-by", "equivalent", "not run here"):
            print(f"\n{row['state'].upper()}: {row['name']} ({row['bug']})\n  witness: "
                  f"{row['witness'] or 'none'}\n  first: {row['first'] or 'nothing'}\n  why: "
                  f"{row['why'] or 'nobody says'}")
    print(f"\n{'check':16}{'kills':>6}{'alone':>6}{'rejects':>8}{'alone':>6}{'seconds':>9}")
    for name, found in kill_count.by_check(rows, matrix["rejects"]).items():
        print(f"{name:16}{found['kills']:6}{found['unique']:6}{found['rejects']:8}"
              f"{found['unique_rejects']:6}{found['seconds']:9.1f}")
    for key in ("family", "operation"):
        print()
        for name, states in kill_count.tally(rows, key).items():
            print(f"{name:20}" + ", ".join(f"{n} {s}" for s, n in states.most_common()))
    states = Counter(row["state"] for row in rows)
    print(f"\n{len(rows)} mutants: " + ", ".join(f"{n} {s}" for s, n in states.most_common()))
    print(f"{len(kill_count.killed(rows))} of {len(kill_count.witnessed(rows))} with a witness "
          f"killed ({kill_count.share(rows):.1%}); {matrix['run']['reused']} results taken from "
          f"earlier runs; {matrix['run']['seconds']} s")
    void = kill_count.controls(matrix, whole)
    for fault in void:
        print(f"VOID: {fault}")
    wrong = kill_count.short(matrix, whole)
    print("\n".join(wrong))
    return 1 if void or wrong else 0


def told_honest(honest: dict) -> int:
    """Prints how often honest variants were refused; 1 where one was, or none was run."""
    rows = honest["rows"]
    refused = [(row["name"], fault) for row in rows for fault in row["refused"]]
    for name, fault in refused:
        print(f"FALSE ACCUSATION: {name}: {fault}")
    print(f"{len(rows)} honest variants, {sum(row['proofs'] for row in rows)} proofs, "
          f"{len(refused)} false accusations, {honest['run']['seconds']} s")
    return 1 if refused or not rows else 0


def main(words: list[str] | None = None) -> int:
    options = parser().parse_args(words)
    run, found, code = Run(options), {}, 0
    if options.write and not run.whole:
        raise SystemExit("--write: found --only, --family or --sample; a part is not the matrix")
    if not options.honest:
        matrix = run.matrix()
        found["cuda" if options.device else "matrix"] = matrix
        code = told(matrix, run.whole and not options.device)
    if options.honest or (run.whole and not options.device):
        found["honest"] = Run(options).honest()
        code |= told_honest(found["honest"])
    if options.write:
        kill_page.write(found)
    return code


if __name__ == "__main__":
    sys.exit(main())
