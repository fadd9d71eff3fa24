"""The contract of an operation: its explicit file's signature, as `reference.signature` reads it.

`reference/explicit/layernorm.py` has `def forward(inp: R["N C"], eps: Const = 1e-5) -> Forward`
and `class Forward(NamedTuple)` with `out: F["N C"]`. From that follow operation, direction, and for
each argument its role, axes and access. A `Sum` output is added to what stands in its buffer, an
`InOut` is read and written, every other output overwrites.
"""

import ast
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ported import expressions
from ported.parsing import ONE, parsed
from reference.shapes import Axis
from reference.signature import DIRECTIONS, Signature
from reference.signature import read as signatures

ROOT = Path(__file__).resolve().parent.parent
ROLES = ("F", "R", "P", "G", "F32", "I32")
STATEMENTS = ("FLOPS", "BYTES")  # of cost: a contract means the same without them


class ContractError(ValueError):
    """An operation that does not exist."""


@dataclass(frozen=True)
class Tensor:
    """One buffer of an operation. `access`: in, out (overwritten), sum (added to), inout."""

    name: str
    role: str
    axes: tuple[str, ...]
    access: str
    dyn: bool = False

    def shape(self, axes: dict[str, int]) -> tuple[int, ...]:
        return tuple(expressions.evaluate(axis, axes) for axis in self.axes)

    def __str__(self) -> str:
        return f'{self.name}: {self.role}["{" ".join(self.axes)}"]'


@dataclass(frozen=True)
class Contract:
    """What `<operation>_<direction>` takes and gives. `meaning` is its syntax without prose."""

    operation: str
    direction: str
    tensors: tuple[Tensor, ...]
    consts: dict[str, float]
    axis_arguments: tuple[str, ...]
    meaning: str = field(repr=False)
    statements: dict[str, str] = field(default_factory=dict, repr=False)
    at_random: tuple[str, ...] = ()  # outputs rounded up or down at random where they are narrow

    @property
    def name(self) -> str:
        return f"{self.operation}_{self.direction}"

    @cached_property
    def by_name(self) -> dict[str, Tensor]:
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Every axis name that a tensor or an Axis argument uses, in order of appearance."""
        found: dict[str, None] = {}
        for tensor in self.tensors:
            for axis in tensor.axes:
                found.update(dict.fromkeys(sorted(expressions.names(axis))))
        found.update(dict.fromkeys(self.axis_arguments))
        return tuple(found)

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that its tensors have."""
        return tuple(dict.fromkeys(tensor.role for tensor in self.tensors))

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(t for t in self.tensors if t.access in ("in", "inout"))

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return tuple(t for t in self.tensors if t.access != "in")

    def stated(self, what: str, axes: Mapping[str, int]) -> int | None:
        """What the explicit file states about its cost at these axes (`FLOPS`, `BYTES`), if it
        does: `FLOPS = {"forward": "2*N*C*O", ...}` at module level."""
        text = self.statements.get(what)
        return None if text is None else expressions.evaluate(text, axes)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.meaning.encode()).hexdigest()


def without_prose(tree: ast.Module) -> ast.Module:
    """The syntax without docstrings; it is changed in place."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return tree


def _said(tree: ast.Module) -> str:
    """What a contract means: no docstrings, no statements of cost."""
    tree.body = [node for node in tree.body if not (
        isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in STATEMENTS)]
    return ast.unparse(without_prose(tree))


def _meaning(path: Path, seen: set[Path]) -> str:
    """Syntax of an explicit file and of the explicit files that it is composed of."""
    seen.add(path)
    tree = parsed(path.read_text())
    parts = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("reference"):
            continue
        imported = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in imported:
            other = path.parents[2] / (module.replace(".", "/") + ".py")
            if other.is_file() and other.parent == path.parent and other not in seen:
                parts.append(_meaning(other, seen))
    return "\n".join([_said(tree), *parts])


def _tensors(signature: Signature) -> tuple[Tensor, ...]:
    """Arguments, then results; an InOut, which is both, once."""
    access = {"whole": "in", "dyn": "in", "inout": "inout"}
    found = {name: Tensor(name, note.role, tuple(note.dims), access[note.access],
                          note.access == "dyn")
             for name, note in signature.inputs.items()}
    for name, note in signature.results.items():
        made = "out" if note.access == "whole" else note.access
        found.setdefault(name, Tensor(name, note.role, tuple(note.dims), made))
    return tuple(found.values())


def _statements(tree: ast.Module, direction: str) -> dict[str, str]:
    """FLOPS and BYTES of one direction, where the file states them."""
    found = {}
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=what)], value=value) if what in STATEMENTS:
                stated = ast.literal_eval(value)
                if direction in stated:
                    found[what] = stated[direction]
    return found


def _rounded(tree: ast.Module, direction: str) -> tuple[str, ...]:
    """`ROUNDED = {"update": ("weight",)}`: outputs of which either neighbour is a right result."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "ROUNDED":
            return tuple(ast.literal_eval(node.value).get(direction, ()))
    return ()


def read(path: Path) -> dict[str, Contract]:
    """The contracts of one explicit file by name, as `layernorm_forward`."""
    meaning = _meaning(path, set())
    tree = parsed(path.read_text())
    found = {}
    with ONE:
        signed = signatures(path)
    for direction, said in signed.items():
        axes = tuple(name for name, note in said.arguments.items() if note is Axis)
        contract = Contract(path.stem, direction, _tensors(said), dict(said.consts), axes, meaning,
                            _statements(tree, direction), _rounded(tree, direction))
        found[contract.name] = contract
    return found


def read_all(root: Path = ROOT) -> dict[str, Contract]:
    """Every contract of the tree by name. The directory is the registry."""
    found: dict[str, Contract] = {}
    for path in sorted((root / "reference" / "explicit").glob("*.py")):
        if path.name != "__init__.py":
            found.update(read(path))
    return found


def of(name: str, root: Path = ROOT) -> Contract:
    """The contract called `name`, reading its one explicit file."""
    operation, _, direction = name.rpartition("_")
    path = root / "reference" / "explicit" / f"{operation}.py"
    found = read(path) if path.is_file() else {}
    if name not in found or direction not in DIRECTIONS:
        known = sorted(p.stem for p in path.parent.glob("*.py") if p.name != "__init__.py")
        raise ContractError(f"no operation '{name}'; known operations: {', '.join(known)}, "
                            f"each with a direction of {', '.join(DIRECTIONS)}")
    return found[name]
