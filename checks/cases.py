"""Cases: shapes and values drawn from a contract, each reproducible from one short text.

`layernorm_forward:N=3,C=17:seed=5:family=outlier` says everything: axes, the seed of every random
number, and the family that the values belong to. No operation is known by name here. What a value
may be follows from its role; the few that mean something narrower (a token, a variance) stand in
DOMAINS by the tensor's name, which means the same in every operation.

A backward's inputs are those of a real step: the forward's inputs are drawn, the explicit forward
runs on them in float64, what it saves is rounded to its role's dtype, and gradients are drawn. The
precision of a case says which dtype that is; every number drawn is one that its tensor can hold.
"""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ported import contract as contracts
from ported import precision as precisions
from ported.contract import Contract, Tensor

BELOW = {"V": "Vp", "T": "Tmax"}  # never larger than the axis named
LIMITS = {"B": 9, "H": 6, "D": 130, "T": 140, "Tmax": 150, "S": 40}  # of a drawn axis; others: 300
LARGEST = 300
ELEMENTS = 2_000_000  # of all tensors of a case
PIECE = 1 << 12  # rows of a large case that are computed at a time
HUGE = 1 << 22  # elements from which families are made in float32
WORK = 6_000_000  # multiplications that the explicit file states


class CaseError(ValueError):
    """A text that names no case of an operation."""


@dataclass(frozen=True)
class Case:
    """One input to one operation. `axes` in order of appearance in the contract. The text does not
    name the `precision`: that is the device's."""

    contract: str
    axes: tuple[tuple[str, int], ...]
    seed: int = 0
    family: str = "randn"
    precision: str = "float32"

    def __str__(self) -> str:
        axes = ",".join(f"{name}={size}" for name, size in self.axes)
        return f"{self.contract}:{axes}:seed={self.seed}:family={self.family}"

    @property
    def sizes(self) -> dict[str, int]:
        return dict(self.axes)

    def resized(self, **sizes: int) -> "Case":
        """The same case with some axes of another size."""
        return replace(self, axes=tuple({**self.sizes, **sizes}.items()))


def parse(text: str, contract: Contract, precision: str = "float32") -> Case:
    """The case that `text` prints, with or without the operation's name in front."""
    parts = [part for part in text.split(":") if part != contract.name]
    axes: dict[str, str] = {}
    rest = {"seed": "0", "family": "randn"}
    for part in parts:
        pairs = re.findall(r"(\w+)=([\w.+-]+)", part)
        if pairs and pairs[0][0] in rest:
            rest[pairs[0][0]] = pairs[0][1]
        else:
            axes.update(pairs)
    wanted = axes_of(contract)
    numbers = [*axes.values(), rest["seed"]]
    if (set(axes) != set(wanted) or not all(number.isdecimal() for number in numbers)
            or not all(map(int, axes.values())) or rest["family"] not in FAMILIES):
        example = ",".join(f"{name}=3" for name in wanted)
        raise CaseError(f"found the case '{text}'; expected '{example}:seed=0:family=randn', all "
                         f"sizes from 1, with a family of {', '.join(FAMILIES)}")
    ordered = tuple((name, int(axes[name])) for name in wanted)
    return Case(contract.name, ordered, int(rest["seed"]), rest["family"], precision)


def forward_of(contract: Contract) -> Contract | None:
    """The forward that a backward belongs to; None for other directions."""
    if contract.direction != "backward":
        return None
    return contracts.of(f"{contract.operation}_forward")


def axes_of(contract: Contract) -> tuple[str, ...]:
    """Axes of the contract and, for a backward, of its forward."""
    forward = forward_of(contract)
    return tuple(dict.fromkeys((*contract.axes, *(forward.axes if forward else ()))))


def consistent(sizes: Mapping[str, int]) -> bool:
    """Whether V <= Vp and T <= Tmax."""
    return all(sizes[low] <= sizes[high] for low, high in BELOW.items()
               if low in sizes and high in sizes)


def small_enough(contract: Contract, sizes: Mapping[str, int]) -> bool:
    """Whether a case of these sizes is quick to judge."""
    elements = sum(np.prod([float(n) for n in t.shape(sizes)]) for t in contract.tensors)
    work = (contract.stated("FLOPS", dict(sizes)) or 0) / 2
    return bool(elements <= ELEMENTS and work <= WORK)


# Families: a generator, and a matrix of standard normal numbers, to the matrix of the family.

def _scaled(low: float, high: float):
    return lambda r, x: x * 10 ** r.uniform(low, high)


def _outlier(r, x):
    x[np.arange(len(x)), r.integers(x.shape[1], size=len(x))] *= 10 ** r.uniform(2, 4)
    return x


def _one_hot(r, x):
    out = np.zeros_like(x)
    out[np.arange(len(x)), r.integers(x.shape[1], size=len(x))] = r.uniform(0.5, 2)
    return out


def _sorted(r, x):
    x = np.sort(x, axis=1)
    return x[:, ::-1] if r.integers(2) else x


def _neginf(r, x):
    """Single elements masked, and in some rows whole runs, as of padding or of what comes later."""
    masked = r.random(x.shape) < 0.3
    for row in np.flatnonzero(r.random(len(x)) < 0.5):
        start, stop = np.sort(r.integers(0, x.shape[1] + 1, 2))
        masked[row, (start if r.integers(2) else 0):stop] = True
    masked[np.arange(len(x)), r.integers(x.shape[1], size=len(x))] = False
    return np.where(masked, -np.inf, x)


def _mixed(r, x):
    """Rows of unlike kinds and sizes, one of them all zeros."""
    kinds = ("randn", "mean1000", "tiny", "huge", "outlier", "constant", "onehot")
    for row in range(len(x)):
        kind = kinds[int(r.integers(len(kinds)))]
        x[row] = FAMILIES[kind](r, x[row:row + 1].copy())[0]
    if len(x) > 2:
        x[r.integers(len(x))] = 0
    return x


FAMILIES = {
    "randn": _scaled(-1, 1),
    "unit": _scaled(-0.5, 0),
    "mean1000": lambda r, x: x + 10 ** r.uniform(2.7, 3.3),
    "tiny": _scaled(-12, -6),
    "huge": _scaled(4, 9),
    "squares": _scaled(19.5, 20),  # float32 overflows where it squares
    "outlier": _outlier,
    "constant": lambda r, x: np.broadcast_to(x[:, :1] * 10 ** r.uniform(0, 2), x.shape).copy(),
    "equal": lambda r, x: np.full_like(x, x.flat[0] * 10),
    "onehot": _one_hot,
    "sorted": _sorted,
    "offset": lambda r, x: x + 1e4,
    "negative": lambda r, x: -np.abs(x) - 10 ** r.uniform(2.1, 2.6),
    "large": lambda r, x: x * r.uniform(20, 60),  # scores that a softmax saturates on
    "neginf": _neginf,
    "repeated": _scaled(-0.5, 0.5),  # every index the same
    "denormal": _scaled(-41, -39),
    "mixed": _mixed,
    "integer": lambda r, x: r.integers(-4, 5, x.shape).astype(np.float64),
    "largest": lambda r, x: np.broadcast_to(np.sign(x[:, :1]) * 10 ** r.uniform(36, 38),
                                            x.shape).copy(),
    "smallest": _scaled(-18, -15),
}
# Tried by the deep tier alone: near the largest that float32 holds; squares near the least.
RARE = ("largest", "smallest")
# What weights and gradients are drawn from, beside the family of the data they meet.
MILD = ("randn", "randn", "randn", "outlier", "onehot", "sorted", "mixed", "tiny")


def _index(axis):
    """Anywhere below the axis, the first and the last of it among them."""
    def draw(r, shape, sizes):
        found = r.integers(0, sizes[axis], shape)
        ends = r.permutation(found.size)[:2] if found.size > 2 else []
        found.reshape(-1)[ends] = [0, sizes[axis] - 1][:len(ends)]
        return found
    return draw


def _power(low, high):
    return lambda r, shape, sizes: 10 ** r.uniform(low, high, shape)


def _step(r, shape, sizes):
    return np.full(shape, r.choice([1, 2, 3, 10, 1000, int(r.integers(2, 100000))]))


def _moment(r, shape, sizes):
    return (r.standard_normal(shape) * 10 ** r.uniform(-3, 0)) ** 2


def _faint(r, drawn):
    """Rows as small as eps is, and single zeros."""
    rows = (*drawn.shape[:1], *(1 for _ in drawn.shape[1:]))
    sizes = 10 ** (r.uniform(-14, 0, rows) * (r.random(rows) < 0.5))
    return np.where(r.random(drawn.shape) < 0.05, 0.0, drawn * sizes)


DOMAINS = {
    "tokens": _index("Vp"),
    "targets": _index("V"),
    "t": _step,
    "v": _moment,
    "decay": lambda r, shape, sizes: r.integers(0, 2, shape),
    "scale": lambda r, shape, sizes: r.uniform(0.1, 0.9, shape),
    "lr": _power(-4, -2),
    "dscale": _power(-5, 0),
}
# What some cases of unusual families have instead: numbers at which shortcuts are taken.
CORNERS = {"v": _faint, **{name: lambda r, drawn, number=number: np.full_like(drawn, number)
                           for name, number in (("scale", 1.0), ("lr", 0.0), ("dscale", 1.0))}}
# What belongs to the numbers of a family: second moments are means of squares.
BESIDE = {("v", "smallest"): lambda r, drawn: drawn * 10 ** r.uniform(-30, -28)}
PLAIN = ("randn", "unit", "integer")
ZERO_MEANS_OFF = ("max_norm", "weight_decay")  # constants for which 0 switches something off


def _generator(case: Case, name: str) -> np.random.Generator:
    return np.random.default_rng([case.seed, zlib.crc32(name.encode())])


def stored(case: Case, tensor: Tensor, array: np.ndarray) -> np.ndarray:
    """What the tensor holds of `array` in the case's precision."""
    dtype = precisions.of(case.precision).dtypes[tensor.role]
    with np.errstate(over="ignore"):
        return precisions.rounded(array, dtype)


def _value(case: Case, tensor: Tensor, sizes: Mapping[str, int]) -> np.ndarray:
    r, shape = _generator(case, tensor.name), tensor.shape(sizes)
    if tensor.name in DOMAINS:
        drawn = np.asarray(DOMAINS[tensor.name](r, shape, sizes))
        if beside := BESIDE.get((tensor.name, case.family)):
            drawn = beside(r, drawn)
        elif tensor.name in CORNERS and case.family not in PLAIN and r.random() < 0.4:
            drawn = CORNERS[tensor.name](r, np.asarray(drawn, np.float64))
        if tensor.role == "I32" and case.family == "repeated":
            drawn = np.full(shape, drawn.flat[0])
        return stored(case, tensor, drawn)
    if tensor.role == "I32":
        raise ValueError(f"{case.contract}: found {tensor} without a range of values; expected "
                         f"{tensor.name} in DOMAINS of checks/cases.py")
    gradient = tensor.name.startswith("d") and not case.contract.endswith("_update")
    data = tensor.role in ("F", "R", "G") and not gradient
    family = case.family
    if not data and family not in PLAIN:
        family = MILD[int(r.integers(len(MILD)))]
    rows = r.standard_normal((int(np.prod(shape[:-1])), shape[-1]), np.float32)
    if rows.size < HUGE:
        rows = rows.astype(np.float64)
    with np.errstate(all="ignore"):
        return stored(case, tensor, FAMILIES[family](r, rows).reshape(shape))


def _constants(case: Case, contract: Contract) -> dict[str, float]:
    """A seed divisible by 3 keeps the defaults; otherwise each is moved by a factor."""
    if case.seed % 3 == 0:
        return dict(contract.consts)
    moved = {}
    for name, default in contract.consts.items():
        factor = 10 ** _generator(case, name).uniform(-1, 0.6)
        near_one = 0.5 < default < 1
        moved[name] = 1 - (1 - default) * factor if near_one else default * factor
        if name in ZERO_MEANS_OFF and case.seed % 5 == 0:
            moved[name] = 0.0
    return moved


@dataclass(frozen=True)
class Drawn:
    """`inputs`: the contract's arguments by name (arrays, axis sizes, constants).
    `forward`: for a backward, the forward's arguments that lie behind it."""

    case: Case
    inputs: dict
    forward: dict | None = None


def explicit(contract: Contract, inputs: Mapping) -> dict[str, np.ndarray]:
    """The explicit function's outputs in float64, by name."""
    from checks import gate

    found = gate.explicit(contract, gate.tensors_of(contract, inputs))
    return {name: value.numpy() for name, value in found.items()}


def _in_pieces(contract: Contract, inputs: Mapping, sizes: Mapping) -> dict[str, np.ndarray]:
    """`explicit`; of a large case some rows of the batch after the other, which do not meet in a
    forward, since float64 would need many times the memory of the kernel."""
    axis, most = ("B", 1) if "B" in sizes else ("N", PIECE)
    count = sizes.get(axis, 0)
    if sum(np.size(value) for value in inputs.values()) < HUGE or count <= most:
        return explicit(contract, inputs)
    split = {t.name for t in contract.inputs if t.axes[:1] == (axis,)}
    found = [explicit(contract, {n: v[at:at + most] if n in split else v
                                 for n, v in inputs.items()})
             for at in range(0, count, most)]
    return {n: np.concatenate([part[n] for part in found]) for n in found[0]}


def _plain(case: Case, contract: Contract) -> dict:
    made = {t.name: _value(case, t, case.sizes) for t in contract.inputs}
    made |= {name: case.sizes[name] for name in contract.axis_arguments}
    return {**made, **_constants(case, contract)}


def draw(case: Case, contract: Contract) -> Drawn:
    """The arguments of `case`, the same on every machine."""
    forward = forward_of(contract)
    if forward is None:
        return Drawn(case, _plain(case, contract))
    given = _plain(case, forward)
    saved = {}
    if {t.name for t in forward.outputs} & {t.name for t in contract.inputs}:
        with np.errstate(all="ignore"):
            saved = {n: stored(case, forward.by_name[n], value)
                     for n, value in _in_pieces(forward, given, case.sizes).items()}
    known = {**given, **saved}
    inputs = {t.name: known[t.name] if t.name in known else _value(case, t, case.sizes)
              for t in contract.inputs}
    inputs |= {name: case.sizes[name] for name in contract.axis_arguments}
    return Drawn(case, {**inputs, **_constants(case, contract)}, given)


def gradients_of(contract: Contract, drawn: Drawn) -> dict[str, np.ndarray]:
    """The drawn gradients among a backward's inputs: `dX` of the forward's output X."""
    forward = forward_of(contract)
    outputs = {f"d{t.name}" for t in forward.outputs} if forward else set()
    return {name: drawn.inputs[name] for name in drawn.inputs if name in outputs}
