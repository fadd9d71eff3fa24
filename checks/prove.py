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
from contextlib import contextmanager
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Unsatisfiable

from checks import device_checks, laws, memory_checks, more_checks, reach, tiers
from checks.cases import Case, parse
from checks.fences import fences
from checks.shapes import INDEXED, Shapes, families_of, smaller
from checks.tiers import Tier
from checks.trial import Broken, Enough, Fault, Ledger, Subject, Trial
from ported.contract import Contract
from ported.device import NotApplicable
from ported.source import Version

# Name of each check and its version: evidence holds both, and a changed number makes it stale.
CHECKS = {
    "poison": 2, "accumulate": 2, "frozen": 2, "guards": 2, "shapes": 2, "pointers": 2, "values": 2,
    "exact": 1, "gate": 2, "self_test": 2, "laws": 2, "three_ways": 1, "nothing_trivial": 1,
    "claims": 2, "sequence": 2, "inplace": 2,
}
# What a proof of CUDA files has besides; a device that cannot run one of them says so.
CUDA_CHECKS = {"launch": 2, "schedule": 2, "sanitizers": 2, "artifact": 2}
PHASES = {"quick": "gate", "threads": "claims", "fences": "guards", "schedules": "schedule",
          "reruns": "schedule",
          **{law.__name__: "laws" for law in (laws.rows, laws.scaling, reach.spread, laws.adjoint)}}
SHRINK_SECONDS = 4.0
ALGORITHMS = 6  # of a vendor's library, at each of three shapes


@dataclass
class Proof:
    """What `prove` found. `verdict`: proved or refused, or not applicable for the `reason` given:
    a version that this device does not run."""

    version: str
    device: str
    precision: str
    tier: str
    seed: int
    ledger: Ledger
    configurations: int
    seconds: float = 0.0
    identity: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, int] = field(default_factory=lambda: CHECKS)
    concedes: tuple[str, ...] = ()
    reason: str = ""
    lost: bool = False  # device or process is of no more use: it must end

    @property
    def verdict(self) -> str:
        if self.reason:
            return "not applicable"
        return "refused" if self.ledger.faults else "proved"

    def as_dict(self) -> dict:
        """As JSON: every check of this device with its version, examples run, worst error."""
        checks = {name: {"version": version, "examples": self.ledger.examples[name],
                         "worst": float(f"{self.ledger.worst.get(name, 0.0):.3g}")}
                  for name, version in self.checks.items()}
        return {"verdict": self.verdict, "reason": self.reason, "precision": self.precision,
                "tier": self.tier, "seed": self.seed, "concedes": list(self.concedes),
                "seconds": round(self.seconds, 2), "configurations": self.configurations,
                "identity": dict(self.identity), "checks": checks, **self.ledger.as_dict(),
                **({"lost": True} if self.lost else {})}


def _sources(case: Case) -> tuple[str, ...]:
    """The checks that a refusal by the gate at this case counts for."""
    return ("gate", "shapes" if case.family in ("randn", "unit") else "values")


def examine(subject: Subject, case: Case, memory: bool = True, law: bool = True) -> bool:
    """Every check that one case allows. False where device or library decline to run it."""
    try:
        _examine(subject, case, memory, law)
    except NotApplicable as error:
        subject.ledger.declined = str(error)
        subject.ledger.not_run["cases that the device or its library declines"] += 1
        return False
    finally:
        subject.phase = "launch"
    return True


def _examine(subject: Subject, case: Case, memory: bool, law: bool) -> None:
    trial = Trial(subject, case, _sources(case))
    if not trial.known.judgeable:
        subject.ledger.not_run["cases whose saved tensors, rounded, leave no finite truth"] += 1
        return
    first = memory_checks.base(trial)
    wanted = [memory_checks.quick, laws.exact]
    if memory:
        wanted += [*memory_checks.EXAMINE, fences]
    if law and not trial.known.whole:
        subject.ledger.not_run["laws: of large cases, of which a sample is judged"] += 1
    elif law and case.family in ("randn", "integer"):
        wanted += laws.LAWS if case.family == "randn" else [laws.rows]
    if memory:
        wanted += device_checks.of(subject.device)
    for check in wanted:
        subject.phase = PHASES.get(check.__name__, check.__name__)
        check(trial, first)


def _spine(subject: Subject, shapes: Shapes, tier: Tier, seed: int, families, first: bool) -> None:
    spine, trivial = shapes.spine(tier.more), None
    for case in shapes.cases(seed, families if first or tier.every else (), tier.more):
        if not _within(subject, case):
            continue
        name = next(n for n, sizes in spine.items() if sizes == case.sizes)
        plain = case.family == "randn"
        few = not (first or tier.every)
        if few and name in INDEXED:
            continue
        memory, law = (tier.memory[:1], ()) if few else (tier.memory, tier.laws)
        if examine(subject, case, plain and name in memory, plain and name in law) and plain:
            found = laws.trivial(Trial(subject, case))
            trivial = found if trivial is None else trivial & found
    for name in trivial or ():
        subject.ledger.refuse(Fault("nothing_trivial", name, f"{name}: found the same number "
                                    "throughout in every case; expected values that matter",
                                    float("inf"), ""))


def _drawn(subject: Subject, shapes: Shapes, count: int, seed: int, families) -> None:
    @seeded(seed)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(shapes.strategy(families))
    def every(case: Case) -> None:
        if _within(subject, case):
            examine(subject, case, memory=False, law=False)

    try:
        every()
    except Unsatisfiable:
        subject.ledger.not_run["drawn cases: none satisfies what the version needs"] += 1


def _within(subject: Subject, case: Case) -> bool:
    """Whether this configuration applies to the case, and the tier affords it."""
    if not subject.applies(case.sizes):
        subject.ledger.not_run["cases where this configuration does not apply"] += 1
        return False
    if subject.affords(case.sizes):
        return True
    subject.ledger.not_run[f"shapes that cost more than {subject.tier.cost} on this device"] += 1
    return False


def _one(subject: Subject, case: Case) -> None:
    if subject.applies(case.sizes):
        examine(subject, case)
    else:
        subject.ledger.not_run["cases where this configuration does not apply"] += 1


def _nothing_ran(ledger: Ledger, version: Version) -> str:
    """A version to which no case applies is refused: nothing was checked."""
    ledger.refuse(Fault("shapes", "", "no shape tried satisfies the needs "
                        f"{' and '.join(version.needs)}", float("inf"), ""))
    return ""


def shrunk(subject: Subject, fault: Fault, contract: Contract, shapes: Shapes) -> Fault:
    """The same refusal at the simplest case found within SHRINK_SECONDS."""
    end, best = time.monotonic() + SHRINK_SECONDS, fault
    progress = bool(fault.case) and fault.check != "self_test"
    while progress:
        progress = False
        for case in smaller(parse(best.case, contract, subject.device.precision.name)):
            if time.monotonic() > end:
                return best
            if not (shapes.allowed(case.sizes) and subject.applies(case.sizes)
                    and subject.affords(case.sizes)):
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
                    subject.say, subject.tier)
    try:
        examine(alone, case)
    except (Enough, Broken):
        pass
    return ledger


def prove(version: Version, contract: Contract, device, tier: str = "fast", seed: int = 0, *,
          case: str | None = None, target: str | None = None, shrink: bool = True,
          spare: Mapping[str, int] | None = None,
          say: Callable[[str], None] = lambda text: None) -> Proof:
    """Runs the checks of a tier on every launch configuration of `version`.

    `case`: one printed case instead, all of whose checks are run. `target`: stop once this check
    refuses. `spare`: of `artifact` (last of all then), `size` and `sanitizers`, those that are
    asked only while at most so many kinds of checks refuse. `say` is told what is about to run, so
    that a crash can be placed.
    """
    start, ledger = time.monotonic(), Ledger(target=target, spare=spare or {})
    shapes, choices = Shapes(version, contract, device), version.configurations()
    proof = Proof(version.name, device.name, device.precision.name, tier, seed, ledger,
                  len(choices), 0.0, device.identity, checks_of(device, tier), version.concedes)
    trials = _Trials(version, contract, device, shapes, tiers.of(tier, device), seed, ledger, say)
    if not version.supports(device.precision, contract.roles):
        proof.reason = f"its dtype lines do not allow {device.precision.name}"
        return proof
    try:
        if case is not None:
            trials.at(parse(case, contract, device.precision.name), choices)
        else:
            trials.all(choices)
        if not ledger.examples["gate"]:
            proof.reason = ledger.declined or _nothing_ran(ledger, version)
    except (Enough, Broken):
        pass
    proof.lost = trials.lost or ledger.spoilt
    if shrink and ledger.faults and not target and not proof.lost:
        trials.shrink()
    proof.seconds = time.monotonic() - start
    return proof


def checks_of(device, tier: str = "fast") -> dict[str, int]:
    """The checks that a proof on this device is made of, with their versions."""
    found = CHECKS if device.language == "c" else CHECKS | CUDA_CHECKS
    return found | more_checks.numbers(device) if tiers.of(tier, device).more else found


@dataclass
class _Trials:
    """One version on one device, every launch configuration in turn."""

    version: Version
    contract: Contract
    device: object
    shapes: Shapes
    tier: Tier
    seed: int
    ledger: Ledger
    say: Callable[[str], None]
    lost: bool = False  # the device answers no more

    def subject(self, parameters: Mapping[str, int], ledger: Ledger | None = None) -> Subject:
        return Subject(self.version, self.contract, self.device, parameters,
                       self.ledger if ledger is None else ledger, self.say, self.tier)

    def at(self, case: Case, choices: list[dict[str, int]]) -> None:
        """One case under every configuration."""
        for parameters in choices:
            with self._going_on():
                _one(self.subject(parameters), case)

    def all(self, choices: list[dict[str, int]]) -> None:
        """What the tier asks for."""
        families = families_of(self.contract.name)
        if self.tier.file and "artifact" not in self.ledger.spare:
            device_checks.of_the_file(self.subject(choices[0]))
        for number, parameters in enumerate(choices):
            subject = self.subject(parameters)
            with self._going_on():
                if self.tier.spine:
                    _spine(subject, self.shapes, self.tier, self.seed, families, not number)
                if self.tier.spine and number == 0 and self.ledger.examples["gate"]:
                    laws.self_tests(subject, self.shapes, self.seed)
                _drawn(subject, self.shapes, self.tier.others if number else self.tier.drawn,
                       self.seed, families)
                if self.tier.more and number in (0, len(choices) - 1) and (
                        self.ledger.examples["gate"]):
                    more_checks.examine(subject, self.shapes, self.seed, number == 0)
        if self.version.language == "py":
            self._algorithms()
        if self.tier.file and "artifact" in self.ledger.spare:
            device_checks.of_the_file(self.subject(choices[0]))

    def _algorithms(self) -> None:
        """Of a vendor's library: more of the algorithms among which the tuner chooses."""
        for name, sizes in self.shapes.spine().items():
            if name not in ("tile", "gpt2", "odd"):
                continue
            choices = self.device.configurations(self.version, self.contract, sizes)
            for parameters in choices[1:1 + ALGORITHMS]:
                with self._going_on():
                    examine(self.subject(parameters), self.shapes._case(sizes, self.seed, "unit"),
                            memory=False, law=False)

    @contextmanager
    def _going_on(self):
        """A launch that failed ends its configuration; on a GPU it ends everything."""
        try:
            yield
        except Broken:
            self.lost = self.device.name == "cuda"
            if self.lost:
                raise

    def shrink(self) -> None:
        """The first fault of each check, simplest case first in the list."""
        faults = self.ledger.faults
        first = {fault.check: fault for fault in reversed(faults)}
        end = time.monotonic() + 2 * SHRINK_SECONDS
        for check, fault in list(first.items())[::-1]:
            if time.monotonic() < end:
                subject = self.subject(fault.parameters, Ledger())
                first[check] = shrunk(subject, fault, self.contract, self.shapes)
        simplest = list(first.values())[::-1]
        faults[:] = simplest + [f for f in faults if f not in simplest]


if __name__ == "__main__":
    from checks.command import main

    sys.exit(main())
