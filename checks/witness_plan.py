"""The plan of launches on which a mutant is held against the file it was made from (witness.py).

Shapes of the spine and drawn ones, families of values, what stands in outputs and around buffers,
starts of sums, repeated calls, shifted pointers, launch configurations, numbers of threads, other
schedules, the sanitizing flavours and other numbers of multiprocessors: a few of each in turn, so
that most differences show early. Behind the first few stand hints: the cases at which the prover
refuses the mutant. They say where to look, and nothing of what is found there.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from checks import pipelines, processors, round_sizes, tiers
from checks.cases import DOMAINS, RARE, Case, parse
from checks.shapes import EDGES, HOME, Shapes, families_of
from checks.trial import Ledger, Subject
from ported.contract import Contract
from ported.source import Version

MOST = 1 << 22  # additions of an emulated launch, as tiers.py counts them
HINT = 1 << 24  # of one that a hint gives: what the deep tier affords
EARLY = 1 << 19  # launches of more come last
DRAWN = {"cpu": 60, "cuda": 60, "emulated": 30}  # random cases
NAN, INF = float("nan"), float("inf")
SHIFTS = (1, 2, 3, 5, 8)
THREADS = (2, 3, 4, 7, 8, 19)
WATCHED = ({"threads": 3, "races": True}, {"threads": 19, "races": True},
           {"threads": 3, "late": 1}, {"threads": 7, "late": -1, "even": 1}, {"threads": 70},
           {"threads": 7, "most": 2}, {"threads": 2, "number": 16, "even": 1},
           {"threads": 2, "heap": True}, {"threads": 2, "fill": 0}, {"threads": 2, "fill": 0xFF})
BEGIN, HINTED = 6, 24  # launches before the hints, of the hints
ORDERS = ("schedule", "sanitizers", "pipelines")  # checks that look at other orders of threads
FIRST = 40  # launches before those, of which each device is compiled for
MANY = 70  # times a thousand calls: a count of 16 bits comes round
SCHEDULES = (("reverse", 0), ("random", 1), ("warps", 1))
FLAVOURS = (("addresses", "fifo"), ("races", "fifo"), ("races", "warps"))


@dataclass(frozen=True)
class Run:
    """One launch of the plan. `twin`: an earlier one whose bits a deterministic version repeats."""

    case: Case
    parameters: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)  # of Stage.run
    device: Mapping[str, object] = field(default_factory=dict)  # of devices.open
    starts: bool = False
    shift: int | str = 0  # elements; negative: each buffer by another amount; a name: it by one
    twin: int | None = None
    after: bool = False  # right after a launch on nearly the same inputs (leftovers.py)
    fence: str = ""  # end, start: where a page that may not be touched meets every buffer
    # An input, what stands in one place of it, and where: 0 the first element, 1 the last.
    plant: tuple[str, float, float] | None = None
    times: tuple[str, float] | None = None  # a scalar or constant, and the factor on it
    sets: tuple[tuple[str, float], ...] = ()  # scalars and constants with their numbers

    def __str__(self) -> str:
        words = [f"{name}={value}" for name, value in
                 {**self.parameters, **self.device, **self.settings}.items()]
        words += ["sums from random numbers"] * self.starts
        if self.shift:
            how = f"{self.shift} shifted by 1" if isinstance(self.shift, str) else (
                f"pointers +{self.shift}" if self.shift > 0 else f"pointers mixed {self.shift}")
            words.append(how)
        words += ["after nearly the same inputs"] * self.after
        words += [f"closed pages at every {self.fence}"] if self.fence else []
        words += ["one {1} in {0} at {2}".format(*self.plant)] if self.plant else []
        words += [f"{self.times[0]} times {self.times[1]:g}"] if self.times else []
        words += [f"{name} = {value:.7g}" for name, value in self.sets]
        return " ".join([str(self.case), *words])


class Plan:
    """The launches for one original and its mutant."""

    def __init__(self, original: Version, mutant: Version, contract: Contract, device):
        self.versions, self.contract, self.device = (original, mutant), contract, device
        self.limit = MOST
        self.choices = [dict(t) for t in dict.fromkeys(
            tuple(c.items()) for v in self.versions for c in v.configurations())]
        shapes = [Shapes(v, contract, device) for v in self.versions]
        self.shapes = shapes[0] if shapes[0].spine() else shapes[1]
        self.spine = shapes[0].spine(more=True)
        self.spine |= {f"{name} of the mutant": sizes for name, sizes in shapes[1].spine().items()
                       if sizes not in self.spine.values()}
        self.families = families_of(contract.name)

    def case(self, sizes: Mapping[str, int], seed: int, family: str = "randn") -> Case:
        ordered = tuple((axis, sizes[axis]) for axis in self.shapes.axes)
        return Case(self.contract.name, ordered, seed, family, self.device.precision.name)

    def runs(self, hints: Iterable[Mapping] = ()) -> tuple[list[Run], int]:
        """All launches, those that show most first, and how many of them, from BEGIN on, are from
        hints: {"case", "parameters", "check"}. Each source gives a few in turn."""
        made: list[Run] = []
        plain = self.choices[0]
        for sizes in self._places(HOME, "over"):
            base = Run(self.case(sizes, 1), plain)
            made += [base, replace(base, starts=True, settings={"fill": "random",
                                                                "guard": "random"})]
        sources = [self._shapes(), self._memory(), self._large(), self._values(), self._planted(),
                   self._scaled(), self._configurations(), self._elsewhere(), self._ahead(),
                   self._drawn()]
        for group in itertools.zip_longest(*(iter(list(s)) for s in sources)):
            made += [run for run in group if run is not None]
        made[FIRST:FIRST] = self._watched()
        made = [run for run in made if self._cost(run) <= self.limit]
        made = sorted(made, key=lambda run: self._cost(run) > EARLY)
        made += [run for run in self._round() if self._cost(run) <= HINT]
        made[BEGIN:BEGIN] = hinted = self._near(hints, {str(run) for run in made[:BEGIN]})
        return self._with_twins(made), len(hinted)

    def _near(self, hints: Iterable[Mapping], known: set[str]) -> list[Run]:
        """Launches that hints give and that are not among the `known`, a few of each in turn."""
        groups = itertools.zip_longest(*(list(self._hinted(hint)) for hint in hints))
        found = {str(run): run for group in groups for run in group
                 if run is not None and str(run) not in known and self._cost(run) <= HINT}
        return [*found.values()][:HINTED]

    def _hinted(self, hint: Mapping) -> Iterator[Run]:
        """Launches near the case of a refusal."""
        case = parse(hint["case"], self.contract, self.device.precision.name)
        base = Run(case, hint["parameters"] or self.choices[0])
        if hint["check"] in ORDERS and self.device.name == "emulated":
            hows = [{"flavour": f, "schedule": s, "seed": 1} for f, s in FLAVOURS]
            yield from (replace(base, device=how) for how in hows)
            alone = [t.name for t in self.contract.tensors if hint["check"] == "sanitizers"]
            yield from (replace(base, device=hows[0], shift=shift) for shift in (1, -1, *alone))
        if hint["check"] == "pointers":
            yield from (replace(base, shift=shift) for shift in (1, -1))
        yield base
        yield replace(base, starts=True, settings={"fill": "random", "guard": "random"})
        yield from self._deeply(hint["check"], base)

    def _deeply(self, check: str, base: Run) -> Iterator[Run]:
        """What a check of the deep tier does besides launching at a case."""
        cpu = self.device.name == "cpu"
        if check == "round" and cpu:
            yield from (replace(base, device={"threads": count}) for count in (1, 4, 16))
        elif check == "leftovers":
            yield replace(base, after=True)
        elif check == "scalars":
            yield from self._scaled()
        elif check == "extremes":
            yield from self._planted()
        elif check in ("late", "races", "environment") and cpu:
            yield from (replace(base, device=how) for how in WATCHED)
        elif check == "processors":
            yield from (replace(base, device={"multiprocessors": count})
                        for count in processors.COUNTS)

    def _cost(self, run: Run) -> float:
        """Additions of a launch, as tiers.py counts them; infinite where neither version runs."""
        sizes, values = run.case.sizes, {**run.parameters, **self.device.values}
        costs = [tiers.cost(v, sizes, values) if self.device.name == "emulated" else 0
                 for v in self.versions if not v.unmet_needs({**sizes, **values})]
        return min(costs, default=float("inf"))

    def _places(self, *names: str) -> list[dict[str, int]]:
        """Shapes of the spine by name, or the first ones where the version has none of these."""
        return [self.spine[n] for n in names if n in self.spine] or [*self.spine.values()][:2]

    def _shapes(self) -> Iterator[Run]:
        for seed, sizes in enumerate(self.spine.values()):
            yield Run(self.case(sizes, seed), self.choices[0])
            yield Run(self.case(sizes, seed + 20), self.choices[-1], {"fill": "random"},
                      starts=True)

    def _memory(self) -> Iterator[Run]:
        for sizes in self._places(HOME, "even", "over", "tile", "long", "one"):
            base = Run(self.case(sizes, 3), self.choices[0])
            for fill, guard in (("huge", "zero"), ("zero", "random"), ("random", "huge")):
                yield replace(base, settings={"fill": fill, "guard": guard}, starts=fill == "zero")
            for calls in (2, 12 if self.device.name == "emulated" else 300):
                yield replace(base, settings={"calls": calls})
            yield replace(base, settings={"skip": 1 << 16})
            yield replace(base, after=True)
            for pair in self._pairs():
                yield replace(base, settings={"inplace": pair})
            for shift in (*SHIFTS, -1, -2, *(t.name for t in self.contract.tensors)):
                yield replace(base, shift=shift)
            if self.device.name == "cpu":
                yield replace(base, fence="end")
                yield replace(base, fence="start")

    def _large(self) -> Iterator[Run]:
        """Of all that, a little where rows are long or many: kernels go other ways there."""
        for sizes in self._places("gpt2", "flat", "wide"):
            base = Run(self.case(sizes, 1), self.choices[0])
            yield replace(base, shift=1)
            if self.device.name == "cpu":
                yield replace(base, fence="end")
            for tensor in self.contract.inputs:
                if tensor.role != "I32":
                    yield replace(base, plant=(tensor.name, NAN, 0.5))

    def _pairs(self) -> list[dict[str, str]]:
        claimed = {**self.versions[1].inplace, **self.versions[0].inplace}
        return [{output: given} for output, given in claimed.items()]

    def _values(self) -> Iterator[Run]:
        rows = [s for n, s in self.spine.items() if n in (HOME, "tile", "over", "under", "gpt2")]
        for seed, family in enumerate((*self.families, *RARE)):
            for more in (0, 1):
                sizes = (rows or [*self.spine.values()])[(seed + more) % len(rows or self.spine)]
                yield Run(self.case(sizes, seed + 100 * more + 1, family), self.choices[0])

    def _planted(self) -> Iterator[Run]:
        """A number that is none, or infinite, in one place of one input: its last, middle, first.
        Infinite only where any number may stand."""
        places = self._places(HOME, "even", "over")
        for where, values in ((1.0, (NAN, INF, -INF)), (0.5, (NAN, INF)), (0.0, (NAN,))):
            for sizes in places:
                for value in values:
                    for tensor in self.contract.inputs:
                        if tensor.role != "I32" and (np.isnan(value) or tensor.name not in DOMAINS):
                            yield Run(self.case(sizes, 1), self.choices[0],
                                      plant=(tensor.name, value, where))

    def _scaled(self) -> Iterator[Run]:
        """Scalars and constants far from where they usually are."""
        names = [t.name for t in self.contract.inputs if t.name in DOMAINS and t.role != "I32"]
        for sizes in [*self.spine.values()][:2]:
            for factor in (1e-3, 0.1, 30.0, 1e3):
                for name in [*names, *(self.contract.consts if factor < 1 else ())]:
                    yield Run(self.case(sizes, 1), self.choices[0], times=(name, factor))
        near = {name: value for name, value in self.contract.consts.items() if 0.5 < value < 1}
        least = [{name: 0.0} for name in near]
        least += [{t.name: (1 << 20) + 1} for t in self.contract.inputs if t.name == "t"]
        for sets in least:
            yield Run(self.case(self._places(HOME)[0], 1), self.choices[0],
                      sets=tuple(sets.items()))
        for closer in (0.1, 0.02) if near else ():
            for step in (30, 1500, 100_000):
                sets = {name: 1 - (1 - value) * closer for name, value in near.items()}
                sets |= {t.name: step for t in self.contract.inputs if t.name == "t"}
                yield Run(self.case(self._places(HOME)[0], 1), self.choices[0],
                          sets=tuple(sets.items()))

    def _configurations(self) -> Iterator[Run]:
        for choice in self.choices[1:]:
            for name in (HOME, "over", "gpt2"):
                if name in self.spine:
                    yield Run(self.case(self.spine[name], 1), choice)

    def _elsewhere(self) -> Iterator[Run]:
        """Other numbers of threads, or other schedules and the flavours that look closer."""
        more = ("long", "gpt2", "flat") if self.device.name == "cpu" else ("broad", "cut", "narrow")
        for sizes in self._places(HOME, "even", "over", "tile", *more):
            base = Run(self.case(sizes, 1), self.choices[0])
            if self.device.name == "cpu":
                hows = [{"threads": count} for count in THREADS]
                yield replace(base, device=hows[0], settings={"calls": 30})
            elif self.device.name == "emulated":
                hows = [{"flavour": f, "schedule": s, "seed": 1} for f, s in FLAVOURS]
                hows += [{"schedule": s, "seed": k} for s, k in SCHEDULES]
            else:
                hows = []
            for how in hows:
                yield replace(base, device=how)
                if how.get("flavour") == "addresses":
                    for shift in (-1, *(t.name for t in self.contract.tensors)):
                        yield replace(base, device=how, shift=shift)

    def _watched(self) -> Iterator[Run]:
        """C: threads that come late or are looked at, teams larger and smaller than usual, other
        contents of heap and stack (watched.py), and very many calls."""
        if self.device.name != "cpu":
            return
        for sizes in self._places(HOME, "over", "flat"):
            base = Run(self.case(sizes, 1), self.choices[0])
            for how in WATCHED:
                yield replace(base, device=how, settings={"calls": 100} if "heap" in how else {})
        for sizes in self._places("one"):
            for seed in range(MANY):  # a state that grows with calls settles; so it begins anew
                yield Run(self.case(sizes, 300 + seed), self.choices[0], {"calls": 1000})

    def _ahead(self) -> Iterator[Run]:
        """Emulated: loops of many stages, in other orders and under a closer look, and grids of
        other numbers of multiprocessors."""
        if self.device.name != "emulated":
            return
        hows = [{"flavour": "races", "schedule": "fifo"}, {"schedule": "warps", "seed": 1}]
        plans = [(pipelines.for_version(self.versions[0]), hows)]
        if any(processors.asks(version) for version in self.versions):
            counts = [{"multiprocessors": count} for count in processors.COUNTS]
            plans.append((processors.SHAPES, counts))
        for number, (places, hows) in enumerate(plans):
            for wanted in places:
                sizes = {axis: wanted.get(axis, 2) for axis in self.shapes.axes}
                if self.shapes.allowed(sizes):
                    base = Run(self.case(sizes, 5 + number), self.choices[0])
                    yield base
                    yield from (replace(base, device=how) for how in hows)

    def _round(self) -> Iterator[Run]:
        """Sizes that tiles divide, and several blocks of each axis (round_sizes.py)."""
        subject = Subject(self.versions[0], self.contract, self.device, self.choices[0], Ledger(),
                          tier=tiers.of("deep", self.device))
        for seed, (sizes, family) in enumerate(round_sizes.jobs(subject, self.shapes)):
            yield Run(self.case(sizes, seed, family), self.choices[0])

    def _drawn(self) -> Iterator[Run]:
        random = np.random.default_rng(4)
        for seed in range(200, 200 + 4 * DRAWN[self.device.name]):
            pools = self.shapes.pools
            sizes = {axis: int(random.choice([n for n in EDGES if n in set(pool)] or pool)
                               if random.random() < 0.5 else random.choice(pool))
                     for axis, pool in pools.items() if pool}
            if len(sizes) == len(pools) and self.shapes.allowed(sizes):
                yield Run(self.case(sizes, seed, str(random.choice(self.families))),
                          self.choices[seed % len(self.choices)])

    def _with_twins(self, made: list[Run]) -> list[Run]:
        """Each launch once; those elsewhere with the number of the one at home. What is not
        deterministic is not compared across orders, except by who claims that it is."""
        made, first = list({str(run): run for run in made}.values()), {}
        found = []
        for run in made:
            key = (str(run.case), *run.parameters.items(), run.starts)
            if not (run.device or run.settings or run.shift or run.plant or run.fence
                    or run.times or run.sets):
                first.setdefault(key, len(found))
            alike = run.device and not (run.settings or run.shift or "races" in run.device
                                        or "multiprocessors" in run.device)
            found.append(replace(run, twin=first.get(key) if alike else None))
        return found
