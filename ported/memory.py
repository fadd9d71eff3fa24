"""Plans every buffer of a program once, in one allocation, and says what it found.

Permanent buffers (parameters, gradients, state, inputs, numbers, tables) stand first, each in a
place of its own; members of a region lie at their offsets in it. Behind them is the transient part:
activations and the scratch of single steps, which share memory whenever they never live at the same
step. Times are steps of a *sequence*: zero, forward, backward and update are one, every other pass
stands alone, so that `evaluate` lies over what training uses. Forward and backward may repeat
between zero and update. A buffer has one address in all passes.

Placing intervals in least memory is NP-hard; largest first into the best fitting gap comes close
(Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020). The plan
reports its distance from the lower bound, the most bytes that live at one step.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ported.precision import FLOAT32
from ported.source import DTYPES
from reference.program import TRAINING, Buffer, Program, Step

ALIGNMENT = 256
Place = tuple[str, int]  # a pass and the number of a step in it
Lives = dict[str, tuple[int, int]]  # by sequence: the first and the last step


class PlanError(ValueError):
    """A program that cannot be planned: a read before a write, or more than the memory there is."""


@dataclass(frozen=True)
class Item:
    """Something that needs `nbytes` from its first to its last step in each sequence of `lives`."""

    name: str
    nbytes: int
    lives: Lives


@dataclass(frozen=True)
class Plan:
    """Where everything lies, in bytes from the start of the one allocation.

    `offsets` of every buffer, members of regions included, `nbytes_of` their sizes; `scratch` of
    the parts of a step's scratch. The transient part is [permanent, nbytes). `bound`: the most
    bytes that live at one step there. `timeline`: the steps of each sequence, as (pass, number).
    """

    program: Program = field(repr=False)
    nbytes: int
    permanent: int
    bound: int
    offsets: dict[str, int] = field(repr=False)
    nbytes_of: dict[str, int] = field(repr=False)
    scratch: dict[Place, dict[str, int]] = field(repr=False)
    items: tuple[Item, ...] = field(repr=False)
    timeline: dict[str, list[Place]] = field(repr=False)
    shared: dict[str, str] = field(repr=False)

    @property
    def transient(self) -> int:
        return self.nbytes - self.permanent

    @property
    def efficiency(self) -> float:
        """Lower bound over bytes used, of the transient part; 1 cannot be improved on."""
        return self.bound / self.transient if self.transient else 1.0

    def live_into(self, name: str) -> list[str]:
        """Transient buffers that pass `name` takes over from an earlier pass of its sequence."""
        sequence = _sequence_of(name)
        start = self.timeline[sequence].index((name, 0)) if self.program.passes[name] else 0
        return [item.name for item in self.items if sequence in item.lives
                and item.lives[sequence][0] < start <= item.lives[sequence][1]]

    def table(self) -> str:
        """The plan for a reader."""
        from ported.memory_report import table

        return table(self)


def _sequence_of(name: str) -> str:
    return "training" if name in TRAINING else name


def timeline(program: Program) -> dict[str, list[Place]]:
    """The steps of every sequence in order, as (pass, number in the pass)."""
    found: dict[str, list[Place]] = {}
    ordered = [name for name in TRAINING if name in program.passes]
    for name in [*ordered, *(name for name in program.passes if name not in TRAINING)]:
        steps = found.setdefault(_sequence_of(name), [])
        steps.extend((name, k) for k in range(len(program.passes[name])))
    return found


def aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def lifetimes(program: Program) -> dict[str, Lives]:
    """From first write to last use of every activation, by sequence.

    Raises PlanError that names every step which reads rows that nothing has written before.
    """
    lives: dict[str, Lives] = {}
    faults: list[str] = []
    for sequence, places in timeline(program).items():
        written = _Written(program)
        for time, (name, k) in enumerate(places):
            step = program.passes[name][k]
            faults += [f"pass {name}, step {k} ({step}): reads {view}, of which rows "
                       f"{rows[0]}:{rows[1]} are not written before"
                       for view in step.reads() if (rows := written.missing(view))]
            for view in [*step.reads(), *step.writes()]:
                root = _root(program, view.buffer)
                if root.kind == "activation":
                    first, _ = lives.setdefault(root.name, {}).get(sequence, (time, time))
                    lives[root.name][sequence] = (first, time)
            for view in step.writes():
                written.add(view)
        _prolong(program, sequence, places, lives)
    if faults:
        raise PlanError("cannot plan the program:\n  " + "\n  ".join(faults)
                        + "\nlet an earlier step of the same sequence write the buffer")
    return lives


class _Written:
    """Which rows of each activation a sequence has written so far."""

    def __init__(self, program: Program):
        self.buffers = program.buffers
        self.rows: dict[str, list[tuple[int, int]]] = {}

    def _range(self, view) -> tuple[int, int]:
        whole = self.buffers[view.buffer].rows[0]
        return (0, whole) if view.start is None else (view.start, view.stop)

    def add(self, view) -> None:
        start, stop = self._range(view)
        apart = []
        for low, high in self.rows.get(view.buffer, ()):
            if high < start or low > stop:
                apart.append((low, high))
            else:
                start, stop = min(low, start), max(high, stop)
        self.rows[view.buffer] = [*apart, (start, stop)]

    def missing(self, view) -> tuple[int, int] | None:
        """The rows of an activation that a view asks for without their having been written."""
        if self.buffers[view.buffer].kind != "activation":
            return None
        start, stop = self._range(view)
        done = any(low <= start and stop <= high for low, high in self.rows.get(view.buffer, ()))
        return None if done else (start, stop)


def _prolong(program: Program, sequence: str, places: list[Place], lives: dict[str, Lives]) -> None:
    """Results stay until their sequence ends; what enters the part of it that accumulation repeats
    stays until that part ends."""
    last = len(places) - 1
    for name in {name for name, _ in places}:
        for result in program.results.get(name, ()):
            if sequence in lives.get(result, {}):
                lives[result][sequence] = (lives[result][sequence][0], last)
    repeated = [t for t, (name, _) in enumerate(places) if name in ("forward", "backward")]
    if sequence != "training" or not repeated:
        return
    for buffer in lives.values():
        start, end = buffer.get(sequence, (0, -1))
        if start < repeated[0] <= end:
            # one beyond: its last reader must not write over it either, since it will read again
            buffer[sequence] = (start, max(end, repeated[-1] + 1))


def _root(program: Program, name: str) -> Buffer:
    buffer = program.buffers[name]
    return buffer if buffer.region is None else program.buffers[buffer.region]


def _overlap(a: Lives, b: Lives) -> list[tuple[str, int, int]]:
    """Where two lives meet: (sequence, first step, last step)."""
    both = [(s, max(a[s][0], b[s][0]), min(a[s][1], b[s][1])) for s in a.keys() & b.keys()]
    return [meeting for meeting in both if meeting[1] <= meeting[2]]


def share(program: Program, lives: Mapping[str, Lives], sizes: Mapping[str, int],
          inplace: Mapping[Place, Mapping[str, str]]) -> dict[str, str]:
    """Which buffer lies on which: {output: input} as far as lifetimes allow.

    `inplace` gives, for a step, outputs that its kernel may write over an input. Two buffers become
    one where they never live together but at steps that allow it.
    """
    allowed, wishes = set(), {}
    for sequence, places in timeline(program).items():
        for time, place in enumerate(places):
            step: Step = program.passes[place[0]][place[1]]
            for output, source in inplace.get(place, {}).items():
                a, b = step.args[output], step.args[source]
                if a.start is None and b.start is None and a.buffer != b.buffer:
                    allowed.add((sequence, time, a.buffer, b.buffer))
                    wishes[a.buffer, b.buffer] = None
    group = {name: [name] for name in lives}

    def handed_over(sequence: str, time: int, output: str, source: str) -> bool:
        return ((sequence, time, output, source) in allowed
                and lives[source][sequence][1] == time == lives[output][sequence][0])

    def apart(a: str, b: str) -> bool:
        return all(handed_over(sequence, first, a, b) or handed_over(sequence, first, b, a)
                   for sequence, first, _ in _overlap(lives[a], lives[b]))

    for a, b in wishes:
        if a not in group or b not in group or group[a] is group[b] or sizes[a] != sizes[b]:
            continue
        if all(apart(x, y) for x in group[a] for y in group[b]):
            group[b].extend(group[a])
            for name in group[a]:
                group[name] = group[b]
    return {name: members[0] for name, members in group.items() if members[0] != name}


def live_bytes(items: Iterable[Item]) -> dict[str, np.ndarray]:
    """Aligned bytes that live at each step, by sequence: its maximum is the lower bound."""
    changes: dict[str, dict[int, int]] = {}
    for item in items:
        for sequence, (first, last) in item.lives.items():
            at = changes.setdefault(sequence, {})
            at[first] = at.get(first, 0) + aligned(item.nbytes)
            at[last + 1] = at.get(last + 1, 0) - aligned(item.nbytes)
    found = {}
    for sequence, at in changes.items():
        steps = np.zeros(max(at) + 1, np.int64)
        steps[list(at)] = list(at.values())
        found[sequence] = np.cumsum(steps)[:-1]
    return found


def lower_bound(items: Iterable[Item]) -> int:
    return max((int(live.max()) for live in live_bytes(items).values()), default=0)


def place(items: list[Item]) -> dict[str, int]:
    """Offsets of items so that no two that live together overlap; the best of a few orders."""
    sequences = sorted({sequence for item in items for sequence in item.lives})
    never = (np.iinfo(np.int64).max, -1)
    lives = np.array([[item.lives.get(s, never) for s in sequences] for item in items], np.int64)
    sizes = np.array([aligned(item.nbytes) for item in items], np.int64)
    spans = np.array([max(last - first for first, last in item.lives.values()) + 1
                      for item in items], np.int64)
    bound, best, used = lower_bound(items), None, 0
    for key in (-sizes, -sizes * spans, -spans):
        offsets = _first_to_last(np.lexsort((-spans, -sizes, key)), lives, sizes)
        top = int((offsets + sizes).max(initial=0))
        if best is None or top < used:
            best, used = offsets, top
        if used == bound:
            break
    return {item.name: int(offset) for item, offset in zip(items, best, strict=True)}


def _first_to_last(order, lives: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Best fit in the order given: the smallest gap between those it lives with that holds it."""
    offsets = np.zeros(len(sizes), np.int64)
    placed = np.zeros(len(sizes), bool)
    for i in order:
        meets = (lives[:, :, 0] <= lives[i, :, 1]) & (lives[i, :, 0] <= lives[:, :, 1])
        others = np.flatnonzero(placed & meets.any(1))
        others = others[np.argsort(offsets[others], kind="stable")]
        starts = offsets[others]
        ends = np.concatenate([[0], np.maximum.accumulate(starts + sizes[others])])
        gaps = starts - ends[:-1]
        fits = np.flatnonzero(gaps >= sizes[i])
        offsets[i] = ends[fits[np.argmin(gaps[fits])]] if len(fits) else ends[-1]
        placed[i] = True
    return offsets


def plan(program: Program, *, scratch: Mapping[Place, Mapping[str, int]] | None = None,
         inplace: Mapping[Place, Mapping[str, str]] | None = None,
         roles: Mapping[str, str] = FLOAT32.dtypes, available: int | None = None) -> Plan:
    """The plan of a program whose steps need `scratch` (bytes by part) and may work `inplace`.

    `roles` gives each role's dtype. Raises PlanError for a read before a write, and for a plan
    larger than `available` bytes, with what would make it fit.
    """
    lives = lifetimes(program)
    nbytes_of = {b.name: b.size * DTYPES[roles[b.role]] for b in program.buffers.values()}
    lies_on = share(program, lives, nbytes_of, inplace or {})
    steps = timeline(program)
    items = _items(lives, lies_on, nbytes_of, scratch or {}, steps)
    offsets, permanent = _permanent(program, nbytes_of)
    found = place(items) if items else {}
    top = max((found[item.name] + aligned(item.nbytes) for item in items), default=0)
    for name in lives:
        offsets[name] = permanent + found[lies_on.get(name, name)]
    for buffer in program.buffers.values():
        if buffer.region is not None:
            member = buffer.offset * DTYPES[roles[buffer.role]]
            offsets[buffer.name] = offsets[buffer.region] + member
    parts = {at: {part: permanent + found[_scratch_name(at, part)] for part in named}
             for at, named in (scratch or {}).items()}
    result = Plan(program, permanent + top, permanent, lower_bound(items), offsets, nbytes_of,
                  parts, tuple(items), steps, lies_on)
    if available is not None and result.nbytes > available:
        from ported.memory_report import refusal

        raise PlanError(refusal(result, available))
    return result


def _scratch_name(at: Place, part: str) -> str:
    return f"{at[0]} {at[1]} scratch {part}"


def _items(lives, lies_on, nbytes_of, scratch, steps) -> list[Item]:
    """What the transient part must hold: buffers (those that share one place as one), scratch."""
    joined: dict[str, Lives] = {}
    for name, life in lives.items():
        into = joined.setdefault(lies_on.get(name, name), {})
        for sequence, (first, last) in life.items():
            low, high = into.get(sequence, (first, last))
            into[sequence] = (min(low, first), max(high, last))
    items = [Item(name, nbytes_of[name], life) for name, life in joined.items()]
    for sequence, places in steps.items():
        for time, at in enumerate(places):
            items += [Item(_scratch_name(at, part), nbytes, {sequence: (time, time)})
                      for part, nbytes in scratch.get(at, {}).items()]
    return items


def _permanent(program: Program, nbytes_of: Mapping[str, int]) -> tuple[dict[str, int], int]:
    offsets, end = {}, 0
    for buffer in program.buffers.values():
        if buffer.kind != "activation" and buffer.region is None:
            offsets[buffer.name] = end
            end += aligned(nbytes_of[buffer.name])
    return offsets, end
