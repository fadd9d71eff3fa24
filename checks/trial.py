"""One version at one case: launched under watch, judged by the gate, every refusal written down."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np

from checks import control_word, gate, known
from checks.cases import Case
from checks.launch import Result, Stage
from checks.tiers import TIERS, Tier, cost
from ported.contract import Contract
from ported.device import DeviceError
from ported.source import Version

KEPT_FAULTS = 40
ROOM = 8.0  # over the gate's rule against stock: a sum of 768 terms, one after another, is honest
ENDLESS = 1 << 16  # terms of a sum, beyond which its order is the element rule's matter alone
# Few distinct numbers: stock may be exact, which obliges nobody; equal errors do not cancel.
LUCKY = ("constant", "equal", "onehot", "integer")


@dataclass(frozen=True)
class Fault:
    """One refusal: which check, at which case and configuration, what was found and expected."""

    check: str
    output: str
    message: str
    ratio: float
    case: str
    parameters: dict = field(default_factory=dict)


class Judged(NamedTuple):
    """The worst error over its bound of an output, and where."""

    worst: float
    case: str
    parameters: dict


ANY = "*"  # as a target: the first refusal, whichever check's
WITH_THE_GATE = frozenset({"gate", "shapes", "values"})  # one comparator, told apart by the cases


class Enough(Exception):
    """Raised to end a proof early, once the refusal that was asked for is there."""


class Broken(Exception):
    """Raised after a launch that failed: what follows it would say nothing."""


@dataclass
class Ledger:
    """Counts of what ran, worst error over its bound, refusals, and what did not run and why."""

    examples: Counter = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=dict)
    # By check, output and family.
    errors: dict[tuple[str, str, str], Judged] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    refused: Counter = field(default_factory=Counter)
    not_run: Counter = field(default_factory=Counter)
    target: str | None = None  # ends the proof as soon as this check refuses
    # Checks that are asked only while at most so many kinds of checks refuse; -1: never.
    spare: Mapping[str, int] = field(default_factory=dict)
    declined: str = ""  # why the device does not run the version at some shape
    spoilt: bool = False  # the process computes otherwise than before, its other threads perhaps
    seconds: Counter = field(default_factory=Counter)  # by phase
    _entered: tuple[str, float] | None = None

    def enter(self, phase: str) -> None:
        """The time since the last call belongs to the phase entered then."""
        now = time.monotonic()
        if self._entered is not None:
            self.seconds[self._entered[0]] += now - self._entered[1]
        self._entered = phase, now

    def ran(self, check: str, worst: float = 0.0) -> None:
        self.examples[check] += 1
        self.worst[check] = max(self.worst.get(check, 0.0), worst)

    def judged(self, check: str, output: str, case: Case, ratio: float,
               parameters: Mapping[str, int]) -> None:
        """An error over its bound, kept where it is the worst of its check, output and family."""
        key = (check, output, case.family)
        if key not in self.errors or ratio > self.errors[key].worst:
            self.errors[key] = Judged(ratio, str(case), dict(parameters))

    def refuse(self, fault: Fault) -> None:
        self.refused[fault.check] += 1
        if self.refused[fault.check] == 1 or len(self.faults) < KEPT_FAULTS:
            self.faults.append(fault)
        if self.target in (fault.check, ANY):
            raise Enough

    def spared(self, check: str) -> bool:
        """Whether more kinds of checks refuse than `spare` lets this one follow; it counts among
        what did not run then."""
        kinds = {"gate" if name in WITH_THE_GATE else name for name in self.refused}
        if check not in self.spare or len(kinds) <= self.spare[check]:
            return False
        self.not_run[f"{check}: spared"] += 1
        return True

    def as_dict(self) -> dict:
        return {"faults": [asdict(fault) for fault in self.faults], "refused": dict(self.refused),
                "not_run": dict(self.not_run)}

    def errors_as_list(self) -> list[dict]:
        """As JSON: the worst error over its bound by check, output and family."""
        return [{"check": check, "output": output, "family": family, **judged._asdict()}
                for (check, output, family), judged in self.errors.items()]


class Subject:
    """What is on trial: one version with one launch configuration on one device."""

    def __init__(self, version: Version, contract: Contract, device, parameters: Mapping[str, int],
                 ledger: Ledger, say: Callable[[str], None] = lambda text: None,
                 tier: Tier = TIERS["fast"]):
        self.version, self.contract, self.device = version, contract, device
        self.parameters, self.ledger, self.say = dict(parameters), ledger, say
        self.tier = tier
        self.phase = "launch"
        self._stages: dict[tuple, Stage] = {}

    @property
    def phase(self) -> str:
        """The check that runs now: for the place of a crash, and for its seconds."""
        return self._phase

    @phase.setter
    def phase(self, name: str) -> None:
        self._phase = name
        self.ledger.enter(name)

    def claims(self, word: str) -> bool:
        return word in self.version.claims

    def stage(self, sizes: Mapping[str, int], device=None) -> Stage:
        device = device or self.device
        key = (id(device), *sorted(sizes.items()))
        if key not in self._stages:
            with control_word.watched(self._loaded_badly):
                self._stages[key] = Stage(device, self.version, self.contract, sizes,
                                          self.parameters)
        return self._stages[key]

    def _loaded_badly(self, message: str) -> None:
        self.ledger.spoilt = True
        self.ledger.refuse(Fault("frozen", "", f"when loaded: {message}", float("inf"), "",
                                 self.parameters))

    def applies(self, sizes: Mapping[str, int]) -> bool:
        integers = {**sizes, **self.parameters, **self.device.values}
        return not self.version.unmet_needs(integers)

    def affords(self, sizes: Mapping[str, int]) -> bool:
        """Whether the tier's limit of cost allows a launch of these sizes."""
        return self.tier.cost is None or self.tier.cost >= cost(
            self.version, sizes, {**self.parameters, **self.device.values})


class Trial:
    """The subject at one case. `sources`: the checks that a refusal by the gate counts for."""

    def __init__(self, subject: Subject, case: Case, sources: Iterable[str] = ("gate",)):
        self.subject, self.case, self.sources = subject, case, tuple(sources)
        self.ledger, self.contract = subject.ledger, subject.contract
        self.known = known.of(case, subject.contract)
        self.stage = subject.stage(case.sizes)

    @property
    def inputs(self) -> dict:
        return self.known.inputs

    def refuse(self, check: str, output: str, message: str, ratio: float = float("inf")) -> None:
        self.ledger.refuse(Fault(check, output, message, ratio, str(self.case),
                                 self.subject.parameters))

    def run(self, inputs: Mapping | None = None, stage: Stage | None = None, **how) -> Result:
        """One launch; whatever memory it changed that is not its own is refused here."""
        settings = ", ".join(f"{k}={v}" for k, v in how.items() if isinstance(v, str | int))
        self.subject.say(f"{self.subject.phase} {self.case} {self.subject.parameters or ''} "
                         f"{settings}")
        result = self.launched(stage or self.stage, inputs, how)
        self.ledger.ran("frozen")
        self.ledger.ran("guards")
        for check, output, message in result.faults:
            self.refuse(check, output, f"{message} ({settings or 'first launch'})")
        return result

    def _left_changed(self, message: str) -> None:
        self.ledger.spoilt = True
        self.refuse("frozen", "", message)

    def launched(self, stage: Stage, inputs: Mapping | None, how: Mapping,
                  check: str = "launch") -> Result:
        """One launch; one that the device refuses or finds a bug in is a refusal."""
        try:
            with control_word.watched(self._left_changed):
                result = stage.run(self.inputs if inputs is None else inputs, **how)
        except DeviceError as error:
            self.refuse(check, "", str(error))
            raise Broken from error
        if stage.device.language != "c":
            self.ledger.ran(check)
        return result

    def judge(self, result: Result, checks: Iterable[str] | None = None, what: str = "",
              starts: Mapping | None = None, truth: gate.Truth | None = None,
              stock: bool = True) -> bool:
        """The gate on every output; a refusal counts for each of `checks`. True: accepted."""
        checks = tuple(checks or self.sources)
        accepted, starts = True, starts or {}
        lucky = self.case.family in LUCKY
        for name, got in result.outputs.items():
            base = self.known.stock.get(name)
            endless = self.known.truth.terms.get(name, 1) > ENDLESS
            base = None if lucky or endless or not stock or name in starts else base
            with np.errstate(all="ignore"):
                findings, ratio = gate.judge(truth or self.known.truth, name, got,
                                             start=starts.get(name), stock=base,
                                             concedes=self.subject.version.concedes)
            findings = [f for f in findings if not (f.check == "stock" and f.ratio <= ROOM
                                                    or f.check == "bias" and lucky)]
            for check in checks:
                self.ledger.ran(check, ratio)
                self.ledger.judged(check, name, self.case, ratio, self.subject.parameters)
                for finding in findings[:1]:
                    accepted = False
                    self.refuse(check, name, f"{what}{finding.check}: {finding.message}",
                                finding.ratio)
        return accepted

    def same(self, check: str, first: Result, second: Result, what: str,
             names: Iterable[str] | None = None) -> None:
        """Both launches gave the same: bitwise under `deterministic`, else by the gate."""
        names = tuple(first.outputs if names is None else names)
        if not self.subject.claims("deterministic"):
            self.judge(second.only(names), [check], what + ": ")
            return
        self.ledger.ran(check)
        for name in names:
            self.equal(check, name, second.outputs[name], first.outputs[name], what)

    def equal(self, check: str, name: str, found: np.ndarray, expected: np.ndarray,
              what: str) -> None:
        """Bitwise equality (any NaN equals any NaN)."""
        if np.array_equal(found.view(np.uint32), expected.view(np.uint32)):
            return
        differs = (found.view(np.uint32) != expected.view(np.uint32)) & ~(
            np.isnan(found) & np.isnan(expected))
        if differs.any():
            at = tuple(int(i) for i in np.argwhere(differs)[0])
            self.refuse(check, name, f"{name}{list(at)}: {what}: found {found[at]:.9g}, expected "
                        f"{expected[at]:.9g} bit for bit; {differs.sum()} of {differs.size} differ")
