"""The prover as a command: `python -m checks.prove`. Proves and writes evidence; can be resumed."""

import argparse

from checks import report, select
from checks.prove import CHECKS, TIERS
from checks.worker import Worker
from ported import device as devices
from ported import evidence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m checks.prove", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--kernel", help="a version's name, or a glob: 'layernorm_*'")
    what.add_argument("--all", action="store_true",
                      help="every version whose proof does not hold")
    parser.add_argument("--device", default="cpu", choices=devices.NAMES)
    parser.add_argument("--tier", default="fast", choices=list(TIERS),
                        help="fast; deep: more of it; seeds: drawn cases alone, for many --seeds")
    parser.add_argument("--seed", type=int, default=0, help="of every random number")
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds in a row, from --seed")
    parser.add_argument("--spread", action="store_true",
                        help="with --seeds: each seed on one version, in turn, not on every one")
    parser.add_argument("--case", help="one case, as printed: 'N=1,C=3:seed=5:family=randn'")
    parser.add_argument("--write", action="store_true",
                        help="write into golden/evidence instead of the user's cache directory")
    parser.add_argument("--again", action="store_true", help="prove anew what is proved already")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds a version may take")
    return parser


def _wanted(options, device) -> tuple[list[str], int]:
    """Names to prove, and how many hold already."""
    names = select.matching(options.kernel or "*", device.language)
    if options.kernel or options.again or options.seeds > 1:
        return names, 0
    left = []
    for name in names:
        version, contract = select.read(name, device.language)
        record = (evidence.committed(name, device.evidence) if options.write
                  else evidence.load(name, device.evidence))
        key = evidence.meaning(version, contract)
        if record is None or evidence.judge(record, key) != "proved":
            left.append(name)
    return left, len(names) - len(left)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 where everything asked for is proved; checking nothing is a failure."""
    options = _parser().parse_args(arguments)
    device = devices.open(options.device)
    try:
        names, reused = _wanted(options, device)
    except select.NoSuchKernel as error:
        raise SystemExit(f"--kernel: {error}") from None
    seeds = range(options.seed, options.seed + options.seeds)
    jobs = [(name, seed) for name in names for seed in seeds]
    if options.spread and names:
        jobs = [(names[k % len(names)], seed) for k, seed in enumerate(seeds)]
    proofs, bad = {}, 0
    with Worker() as worker:
        for name, seed in jobs:
            proofs[name] = _prove(worker, name, device, options, seed)
            bad += proofs[name]["verdict"] != "proved"
    for reason in report.not_run(proofs):
        print(f"did not run: {reason}")
    print(f"proved {len(jobs) - bad}, refused {bad}, reused {reused} proofs")
    return 1 if bad or not (proofs or reused) else 0


def _prove(worker: Worker, name: str, device, options, seed: int) -> dict:
    version, contract = select.read(name, device.language)
    job = {"path": str(version.path), "device": options.device, "tier": options.tier, "seed": seed}
    proof = worker.prove({**job, **({"case": options.case} if options.case else {})},
                         options.timeout)
    if proof["verdict"] == "proved":
        print(report.line(name, proof), flush=True)
    else:
        print(report.faults(name, options.device, proof), flush=True)
    if options.case is None and options.tier != "seeds":
        if proof["verdict"] == "proved" and not proof["checks"]["gate"]["examples"]:
            raise SystemExit(f"{name}: nothing was checked")
        evidence.write(version, contract, device.evidence, proof, committed=options.write)
    return proof


__all__ = ["CHECKS", "main"]
