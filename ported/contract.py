"""The contract of an operation, read from its explicit file as syntax; the file is never imported.

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

ROOT = Path(__file__).resolve().parent.parent
DIRECTIONS = ("forward", "backward", "update")
ROLES = ("F", "R", "P", "G", "F32", "I32")
STATEMENTS = ("FLOPS", "BYTES")


class ContractError(ValueError):
    """An explicit file whose signature does not say a contract."""


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


def _without_prose(tree: ast.Module) -> str:
    tree.body = [node for node in tree.body if not (
        isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in STATEMENTS)]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _meaning(path: Path, seen: set[Path]) -> str:
    """Syntax of an explicit file and of the explicit files that it is composed of."""
    seen.add(path)
    tree = ast.parse(path.read_text())
    parts = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("reference"):
            continue
        imported = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for module in imported:
            other = path.parents[2] / (module.replace(".", "/") + ".py")
            if other.is_file() and other.parent == path.parent and other not in seen:
                parts.append(_meaning(other, seen))
    return "\n".join([_without_prose(tree), *parts])


class _Reader:
    """Reads one explicit file; errors name file and line."""

    def __init__(self, path: Path):
        self.path = path
        self.tree = ast.parse(path.read_text())

    def fail(self, node: ast.AST, found: str, expected: str) -> ContractError:
        return ContractError(f"{self.path}:{node.lineno}: found {found}; expected {expected}")

    def tensor(self, name: str, node: ast.expr, access: str) -> Tensor:
        match node:
            case ast.Subscript(value=ast.Name(id="Sum"), slice=ast.Tuple(elts=[role, axes])):
                access = "sum"
            case ast.Subscript(value=ast.Name(id="InOut"), slice=ast.Tuple(elts=[role, axes])):
                access = "inout"
            case ast.Name(id="Dyn"):
                return Tensor(name, "F32", ("1",), "in", dyn=True)
            case ast.Subscript(value=ast.Name(id="Dyn"), slice=ast.Name(id=role)):
                return Tensor(name, role, ("1",), "in", dyn=True)
            case ast.Subscript(value=role, slice=axes):
                pass
            case _:
                expected = f'{name}: ROLE["AXES"] with a role of {", ".join(ROLES)}'
                raise self.fail(node, f"{name}: {ast.unparse(node)}", expected)
        if not isinstance(role, ast.Name) or role.id not in ROLES:
            raise self.fail(node, ast.unparse(node), f"a role of {', '.join(ROLES)}")
        if not isinstance(axes, ast.Constant) or not isinstance(axes.value, str):
            raise self.fail(node, ast.unparse(node), f'axes as text, as in {role.id}["N C"]')
        return Tensor(name, role.id, tuple(axes.value.split()), access)

    def arguments(self, function: ast.FunctionDef):
        arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        defaults = dict(zip([a.arg for a in reversed(function.args.args)],
                            reversed(function.args.defaults), strict=False))
        tensors, consts, axes = [], {}, []
        for argument in arguments:
            note = argument.annotation
            match note:
                case ast.Name(id="Const"):
                    default = defaults.get(argument.arg)
                    if default is None:
                        raise self.fail(argument, f"{argument.arg}: Const", "a default value")
                    consts[argument.arg] = float(ast.literal_eval(default))
                case ast.Name(id="Axis"):
                    axes.append(argument.arg)
                case None:
                    raise self.fail(argument, f"{argument.arg} bare", "an annotation")
                case _:
                    tensors.append(self.tensor(argument.arg, note, "in"))
        return tensors, consts, tuple(axes)

    def outputs(self, function: ast.FunctionDef) -> list[Tensor]:
        name = function.name.capitalize()
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                fields = [f for f in node.body if isinstance(f, ast.AnnAssign)]
                return [self.tensor(f.target.id, f.annotation, "out") for f in fields]
        raise self.fail(function, f"no class {name}", f"class {name}(NamedTuple) with the outputs")

    def contract(self, function: ast.FunctionDef, meaning: str) -> Contract:
        inputs, consts, axes = self.arguments(function)
        tensors = {tensor.name: tensor for tensor in inputs}
        for tensor in self.outputs(function):
            known = tensors.get(tensor.name)
            if known is not None and known.access != "inout":
                expected = f"{tensor.name} to be InOut[...] where it is an argument"
                raise self.fail(function, f"{tensor.name} as input and as output", expected)
            tensors.setdefault(tensor.name, tensor)
        return Contract(self.path.stem, function.name, tuple(tensors.values()), consts, axes,
                        meaning, self.statements(function.name))

    def statements(self, direction: str) -> dict[str, str]:
        """FLOPS and BYTES of one direction, where the file states them."""
        found = {}
        for node in self.tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=what)], value=value) if what in STATEMENTS:
                    stated = ast.literal_eval(value)
                    if direction in stated:
                        found[what] = stated[direction]
        return found


def read(path: Path) -> dict[str, Contract]:
    """The contracts of one explicit file by name, as `layernorm_forward`."""
    reader = _Reader(path)
    meaning = _meaning(path, set())
    functions = [node for node in reader.tree.body
                 if isinstance(node, ast.FunctionDef) and node.name in DIRECTIONS]
    if not functions:
        raise ContractError(f"{path}: found none of {', '.join(DIRECTIONS)}; expected at least one")
    contracts = [reader.contract(function, meaning) for function in functions]
    return {contract.name: contract for contract in contracts}


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
