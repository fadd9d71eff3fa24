"""The prover as a command: `python -m checks.prove`. Proves and writes evidence; can be resumed."""

import argparse
from concurrent.futures import ThreadPoolExecutor

from checks import report, select
from checks.prove import CHECKS
from checks.tiers import TIERS
from checks.worker import Worker
from ported import device as devices
from ported import evidence
from ported.precision import PRECISIONS

EVIDENT = ("fast", "deep")  # tiers whose proofs are evidence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m checks.prove", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--kernel", help="a version's name, or a glob: 'layernorm_*'")
    what.add_argument("--all", action="store_true",
                      help="every version whose proof does not hold")
    parser.add_argument("--device", default="cpu", choices=devices.NAMES)
    parser.add_argument("--dtype", choices=list(PRECISIONS),
                        help="one precision; otherwise every one that a version's dtypes allow")
    parser.add_argument("--tier", default="fast", choices=list(TIERS),
                        help="fast; deep: more of it and more checks; more: these checks alone; "
                             "seeds: drawn cases alone, for many --seeds")
    parser.add_argument("--seed", type=int, default=0, help="of every random number")
    parser.add_argument("--seeds", type=int, default=1, help="so many seeds in a row, from --seed")
    parser.add_argument("--spread", action="store_true",
                        help="with --seeds: each seed on one version, in turn, not on every one")
    parser.add_argument("--case", help="one case, as printed: 'N=1,C=3:seed=5:family=randn'")
    parser.add_argument("--write", action="store_true",
                        help="write into golden/evidence instead of the user's cache directory")
    parser.add_argument("--again", action="store_true", help="prove anew what is proved already")
    parser.add_argument("--jobs", type=int, default=1, help="so many processes (1)")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds a version may take")
    return parser


def _wanted(options, device) -> tuple[list[str], list[tuple], int]:
    """Names to prove in the device's precision, (name, why) of those not proved there, and how
    many hold already."""
    names, left, absent = select.matching(options.kernel or "*", device.language), [], []
    for name in names:
        version, contract = select.read(name, device.language)
        reason = select.runs_on(version, contract, device)
        if reason:
            absent.append((name, reason))
        elif (options.kernel or options.again or options.seeds > 1
              or select.state(version, contract, device, options.write) != "proved"):
            left.append(name)
    return left, absent, len(names) - len(left) - len(absent)


def opened(name: str, dtype: str | None) -> list:
    """The device called `name` in the precision asked for, or in all that it computes in."""
    wanted = [dtype] if dtype else ["float32"] if name == "cpu" else list(PRECISIONS)
    return [devices.open(name, precision=precision) for precision in wanted]


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 where everything asked for is proved; checking nothing is a failure."""
    options = _parser().parse_args(arguments)
    try:
        found = opened(options.device, options.dtype)
        wanted = [(device, *_wanted(options, device)) for device in found]
    except (select.NoSuchKernel, devices.DeviceError) as error:
        raise SystemExit(f"--kernel/--device: {error}") from None
    jobs, absent, proofs, bad = [], {}, {}, 0
    for device, names, missing, _ in wanted:
        jobs += _jobs(names, device, options)
        for name, reason in missing:
            absent.setdefault(name, []).append(reason)
    absent = [f"{name}: {reasons[0]}" for name, reasons in absent.items()
              if len(reasons) == len(found)]
    parts = max(min(options.jobs, len(jobs)), 1)
    shares = [jobs[k * len(jobs) // parts:(k + 1) * len(jobs) // parts] for k in range(parts)]
    with ThreadPoolExecutor(parts) as pool:
        for share in pool.map(lambda share: _proved(share, options), shares):
            for name, device, proof in share:
                proofs[_label(name, device)] = proof
                bad += proof["verdict"] not in ("proved", "not applicable")
    return _told(proofs, absent, len(jobs), bad, sum(held for *_, held in wanted))


def _jobs(names: list[str], device, options) -> list[tuple]:
    seeds = range(options.seed, options.seed + options.seeds)
    if options.spread and names:
        return [(names[k % len(names)], device, seed) for k, seed in enumerate(seeds)]
    return [(name, device, seed) for name in names for seed in seeds]


def _proved(jobs: list[tuple], options) -> list[tuple]:
    """Proves one after the other in a process of its own; neighbours share what is known."""
    with Worker() as worker:
        return [(name, device, _prove(worker, name, device, options, seed))
                for name, device, seed in jobs]


def _label(name: str, device) -> str:
    return name if device.name == "cpu" else f"{name} {device.precision.name}"


def _told(proofs: dict, absent: list[str], jobs: int, bad: int, reused: int) -> int:
    """Prints what was proved and what was not; the exit code."""
    for reason in report.not_run(proofs):
        print(f"did not run: {reason}")
    for line in absent:
        print(f"not proved here: {line}")
    elsewhere = sum(proof["verdict"] == "not applicable" for proof in proofs.values())
    done = jobs - bad - elsewhere
    print(f"proved {done}, refused {bad}, reused {reused} proofs, "
          f"not proved here {elsewhere + len(absent)}")
    return 1 if bad or not done + reused else 0


def _as_refused(version, contract, device, tier: str, seed: int) -> tuple[str, int]:
    """(tier, seed) of a proof that becomes evidence: where this very file was refused before, what
    refused it tries again, since a lighter tier or other numbers might not see what it saw."""
    key = evidence.meaning(version, contract)
    old = evidence.load(version, device.evidence, key) or {}
    if old.get("meaning") != key or old.get("verdict") != "refused":
        return tier, seed
    return max(tier, old.get("tier", tier), key=EVIDENT.index), old.get("seed", seed)


def _prove(worker: Worker, name: str, device, options, seed: int) -> dict:
    version, contract = select.read(name, device.language)
    tier = options.tier
    if options.case is None and tier in EVIDENT:
        tier, seed = _as_refused(version, contract, device, tier, seed)
    job = {"path": str(version.path), "device": device.name, "dtype": device.precision.name,
           "tier": tier, "seed": seed}
    proof = worker.prove({**job, **({"case": options.case} if options.case else {})},
                         options.timeout)
    label = _label(name, device)
    if proof["verdict"] in ("proved", "not applicable"):
        print(report.line(label, proof), flush=True)
    else:
        print(report.faults(name, device.name, proof), flush=True)
    if options.case is None and tier in EVIDENT and proof["verdict"] != "not applicable":
        if proof["verdict"] == "proved" and not proof["checks"]["gate"]["examples"]:
            raise SystemExit(f"{name}: nothing was checked")
        evidence.write(version, contract, device.evidence, proof, committed=options.write)
    return proof


__all__ = ["CHECKS", "main"]
