"""The checks on one version: `prove` runs all of them over every launch configuration.

    python -m checks.prove --kernel layernorm_forward_02     proves, writes the user's evidence
    python -m checks.prove --all --write                     proves all, writes golden/evidence

(the command itself is command.py). The order: the spine of shapes and families (shapes.py), memory
and laws on it, the gate's self-test, then what hypothesis draws. The first refusal of each check is
brought down to its simplest case.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Unsatisfiable

from checks import laws, memory_checks, reach
from checks.cases import Case, parse
from checks.shapes import HOME, SPINE, Shapes, families_of, smaller
from checks.trial import Enough, Fault, Ledger, Subject, Trial
from ported.contract import Contract
from ported.source import Version

# Name of each check and its version: evidence holds both, and a changed number makes it stale.
CHECKS = {
    "poison": 1, "accumulate": 1, "frozen": 1, "guards": 1, "shapes": 1, "pointers": 1, "values": 1,
    "exact": 1, "gate": 1, "self_test": 1, "laws": 1, "three_ways": 1, "nothing_trivial": 1,
    "claims": 1, "sequence": 1, "inplace": 1,
}
PHASES = {"quick": "gate", "threads": "claims", "three_ways": "three_ways",
          **{law.__name__: "laws" for law in (laws.rows, laws.scaling, reach.spread, laws.adjoint)}}
SHRINK_SECONDS = 4.0
SELF_TESTS = 5  # cases within which every decoy must have been rejected


@dataclass(frozen=True)
class Tier:
    """How much is run: cases drawn by hypothesis for the first configuration and for the others,
    and the shapes of the spine at which memory and laws are examined. Without `spine` nothing but
    drawn cases is run: many seeds of that show whether an honest version is ever accused."""

    drawn: int
    others: int
    memory: tuple[str, ...] = (HOME, "one", "over", "long")
    laws: tuple[str, ...] = (HOME, "over", "long")
    spine: bool = True


TIERS = {"fast": Tier(30, 8), "deep": Tier(400, 100, tuple(SPINE), tuple(SPINE)),
         "seeds": Tier(3, 1, spine=False)}


@dataclass
class Proof:
    """What `prove` found. `verdict`: proved or refused."""

    version: str
    device: str
    tier: str
    seed: int
    ledger: Ledger
    configurations: int
    seconds: float = 0.0
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        return "refused" if self.ledger.faults else "proved"

    def as_dict(self) -> dict:
        """As JSON: every check of CHECKS with its version, examples run and worst error."""
        checks = {name: {"version": version, "examples": self.ledger.examples[name],
                         "worst": float(f"{self.ledger.worst.get(name, 0.0):.3g}")}
                  for name, version in CHECKS.items()}
        return {"verdict": self.verdict, "tier": self.tier, "seed": self.seed,
                "seconds": round(self.seconds, 2), "configurations": self.configurations,
                "identity": dict(self.identity), "checks": checks, **self.ledger.as_dict()}


def _sources(case: Case) -> tuple[str, ...]:
    """The checks that a refusal by the gate at this case counts for."""
    return ("gate", "shapes" if case.family == "randn" else "values")


def examine(subject: Subject, case: Case, memory: bool = True, law: bool = True) -> None:
    """Every check that one case allows."""
    trial = Trial(subject, case, _sources(case))
    if not trial.known.judgeable:
        subject.ledger.not_run["cases whose saved tensors, rounded, leave no finite truth"] += 1
        return
    first = memory_checks.base(trial)
    wanted = [memory_checks.quick, laws.exact, *(memory_checks.EXAMINE if memory else ())]
    if law and case.family in ("randn", "integer"):
        wanted += laws.LAWS if case.family == "randn" else [laws.rows]
    for check in wanted:
        subject.phase = PHASES.get(check.__name__, check.__name__)
        check(trial, first)
    subject.phase = "launch"


def _spine(subject: Subject, shapes: Shapes, tier: Tier, seed: int, families) -> None:
    spine, trivial = shapes.spine(), None
    for case in shapes.cases(seed, families):
        if not subject.applies(case.sizes):
            subject.ledger.not_run["cases where this configuration does not apply"] += 1
            continue
        name = next(n for n, sizes in spine.items() if sizes == case.sizes)
        plain = case.family == "randn"
        examine(subject, case, plain and name in tier.memory, plain and name in tier.laws)
        if plain:
            found = laws.trivial(Trial(subject, case))
            trivial = found if trivial is None else trivial & found
    for name in trivial or ():
        subject.ledger.refuse(Fault("nothing_trivial", name, f"{name}: found the same number "
                                    "throughout in every case; expected values that matter",
                                    float("inf"), ""))


def _self_tests(subject: Subject, shapes: Shapes, seed: int) -> None:
    spine, verdicts = shapes.spine(), {}
    places = [spine[n] for n in (HOME, "tile", "over", "under") if n in spine] or [*spine.values()]
    for number in range(SELF_TESTS):
        family = ("unit", "unit", "tiny", "outlier", "sorted")[number % 5]
        case = shapes._case(places[number % len(places)], seed + number, family)
        subject.say(f"self_test {case}")
        found = laws.self_test(subject.contract, case)
        subject.ledger.ran("self_test")
        for decoy, verdict in found.items():
            verdicts.setdefault(decoy, set()).add(verdict)
            if verdict == "ACCEPTED":
                subject.ledger.refuse(Fault("self_test", "", "the gate accepts the decoy "
                                            f"'{decoy}'", float("inf"), str(case)))
        if number and all("rejected" in seen for seen in verdicts.values()):
            break
    never = sorted(d for d, seen in verdicts.items() if seen == {"vacuous"})
    if never:
        subject.ledger.not_run[f"self_test: vacuous in every case: {', '.join(never)}"] += 1
    if not any("rejected" in seen for seen in verdicts.values()):
        subject.ledger.refuse(Fault("self_test", "", "no decoy was rejected", float("inf"), ""))


def _drawn(subject: Subject, shapes: Shapes, count: int, seed: int, families) -> None:
    @seeded(seed)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(shapes.strategy(families))
    def every(case: Case) -> None:
        if subject.applies(case.sizes):
            examine(subject, case, memory=False, law=False)
        else:
            subject.ledger.not_run["cases where this configuration does not apply"] += 1

    try:
        every()
    except Unsatisfiable:
        subject.ledger.not_run["drawn cases: none satisfies what the version needs"] += 1


def _one(subject: Subject, case: Case) -> None:
    if subject.applies(case.sizes):
        examine(subject, case)
    else:
        subject.ledger.not_run["cases where this configuration does not apply"] += 1


def _something_ran(ledger: Ledger, version: Version) -> None:
    """A version to which no case applies is refused: nothing was checked."""
    if not ledger.examples["gate"]:
        message = f"no shape tried satisfies the needs {' and '.join(version.needs)}"
        ledger.refuse(Fault("shapes", "", message, float("inf"), ""))


def shrunk(subject: Subject, fault: Fault, contract: Contract, shapes: Shapes) -> Fault:
    """The same refusal at the simplest case found within SHRINK_SECONDS."""
    end, best = time.monotonic() + SHRINK_SECONDS, fault
    progress = bool(fault.case) and fault.check != "self_test"
    while progress:
        progress = False
        for case in smaller(parse(best.case, contract)):
            if time.monotonic() > end:
                return best
            if not (shapes.allowed(case.sizes) and subject.applies(case.sizes)):
                continue
            found = next((f for f in at_case(subject, case).faults if f.check == fault.check), None)
            if found is not None:
                best, progress = found, True
                break
    return best


def at_case(subject: Subject, case: Case, target: str | None = None) -> Ledger:
    """Everything that one case allows, in a ledger of its own."""
    ledger = Ledger(target=target)
    alone = Subject(subject.version, subject.contract, subject.device, subject.parameters, ledger,
                    subject.say)
    try:
        examine(alone, case)
    except Enough:
        pass
    return ledger


def prove(version: Version, contract: Contract, device, tier: str = "fast", seed: int = 0, *,
          case: str | None = None, target: str | None = None, shrink: bool = True,
          say: Callable[[str], None] = lambda text: None) -> Proof:
    """Runs the checks of a tier on every launch configuration of `version`.

    `case`: one printed case instead, all of whose checks are run. `target`: stop once this check
    refuses. `say` is told what is about to run, so that a crash can be placed.
    """
    start, ledger = time.monotonic(), Ledger(target=target)
    shapes = Shapes(version, contract, getattr(device, "threads", 1))
    choices = version.configurations()
    proof = Proof(version.name, device.name, tier, seed, ledger, len(choices),
                  identity=device.identity)
    families = families_of(contract.name)
    try:
        for number, parameters in enumerate(choices):
            subject = Subject(version, contract, device, parameters, ledger, say)
            if case is not None:
                _one(subject, parse(case, contract))
                continue
            if TIERS[tier].spine:
                _spine(subject, shapes, TIERS[tier], seed, families)
            if TIERS[tier].spine and number == 0 and ledger.examples["gate"]:
                _self_tests(subject, shapes, seed)
            count = TIERS[tier].others if number else TIERS[tier].drawn
            _drawn(subject, shapes, count, seed, families)
        _something_ran(ledger, version)
    except Enough:
        pass
    if shrink and ledger.faults and not target:
        _shrink_all(ledger, version, contract, device, shapes, say)
    proof.seconds = time.monotonic() - start
    return proof


def _shrink_all(ledger: Ledger, version, contract, device, shapes, say) -> None:
    """The first fault of each check, simplest case first in the list."""
    first = {fault.check: fault for fault in reversed(ledger.faults)}
    end = time.monotonic() + 2 * SHRINK_SECONDS
    for check, fault in list(first.items())[::-1]:
        if time.monotonic() < end:
            subject = Subject(version, contract, device, fault.parameters, Ledger(), say)
            first[check] = shrunk(subject, fault, contract, shapes)
    simplest = list(first.values())[::-1]
    ledger.faults[:] = simplest + [f for f in ledger.faults if f not in simplest]


if __name__ == "__main__":
    from checks.command import main

    sys.exit(main())
