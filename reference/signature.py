"""The signature of an operation's explicit function, read without importing torch.

A program must know what `layernorm_forward` takes and gives. That stands in the explicit file and
nowhere else; here it is parsed, and only its annotations are evaluated, over `reference.shapes`.
"""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from reference import shapes

EXPLICIT = Path(__file__).parent / "explicit"
DIRECTIONS = ("forward", "backward", "update")
NOTES = {name: note for name, note in vars(shapes).items()
         if isinstance(note, shapes.Role | shapes.Tensor | type) or name in ("Sum", "InOut")}


class SignatureError(ValueError):
    """An explicit file whose signature says no contract: file, line, found, expected."""


@dataclass(frozen=True)
class Signature:
    """Arguments and results of one function, in order, and the Const defaults."""

    arguments: dict  # name -> shapes.Tensor, shapes.Const or shapes.Axis
    results: dict[str, shapes.Tensor]
    consts: dict[str, float]

    @property
    def inputs(self) -> dict[str, shapes.Tensor]:
        """Arguments that are buffers, InOut among them."""
        return {n: note for n, note in self.arguments.items() if isinstance(note, shapes.Tensor)}

    @property
    def tensors(self) -> dict[str, shapes.Tensor]:
        """Every buffer that the operation touches."""
        return {**self.inputs, **self.results}


def operations() -> list[str]:
    """Names of all operations: the directory is the registry."""
    return sorted(path.stem for path in EXPLICIT.glob("[a-z]*.py"))


def split(op: str) -> tuple[str, str]:
    """`layernorm_forward` as `("layernorm", "forward")`."""
    operation, _, direction = op.rpartition("_")
    return operation, direction


@cache
def signature(op: str) -> Signature:
    """Signature of `<operation>_<direction>`. Raises SignatureError for one that does not exist."""
    operation, direction = split(op)
    path = EXPLICIT / f"{operation}.py"
    found = _known(path) if path.is_file() else {}
    if direction not in found:
        raise SignatureError(
            f"operation {op}: found no {direction}() in reference/explicit/{operation}.py, "
            f"expected one of {', '.join(operations())} with _{', _'.join(DIRECTIONS)} behind it"
        )
    return found[direction]


@cache
def _known(path: Path) -> dict[str, Signature]:
    return read(path)


def read(path: Path) -> dict[str, Signature]:
    """The signatures of one explicit file by direction; the file is parsed, never imported."""
    body = ast.parse(path.read_text()).body
    named = {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found = {name: _signature(path, named, named[name]) for name in DIRECTIONS if name in named}
    if not found:
        raise SignatureError(f"{path}: found no function; expected {' or '.join(DIRECTIONS)}")
    return found


def _signature(path: Path, named: dict, function: ast.FunctionDef) -> Signature:
    result = named.get(function.name.capitalize())
    if not isinstance(result, ast.ClassDef):
        raise _fault(path, function, f"no class {function.name.capitalize()}",
                     "a NamedTuple of the outputs")
    given = function.args.args
    arguments = {argument.arg: _note(path, argument, argument.annotation) for argument in given}
    defaults = function.args.defaults
    with_default = [argument.arg for argument in given[len(given) - len(defaults):]]
    consts = dict(zip(with_default, map(ast.literal_eval, defaults), strict=True))
    for argument in given:
        if arguments[argument.arg] is shapes.Const and argument.arg not in consts:
            raise _fault(path, argument, f"{argument.arg}: Const alone", "a default value")
    fields = [node for node in result.body if isinstance(node, ast.AnnAssign)]
    results = {field.target.id: _note(path, field, field.annotation) for field in fields}
    for name, note in results.items():
        if name in arguments and note.access != "inout":
            raise _fault(path, function, f"{name} as argument and as result", "InOut[...] for it")
    return Signature(arguments, results, consts)


def _note(path: Path, node: ast.AST, annotation: ast.expr | None):
    expected = f'ROLE["AXES"] ({", ".join(sorted(NOTES))})'
    if annotation is None:
        raise _fault(path, node, "no annotation", expected)
    try:
        note = eval(ast.unparse(annotation), {"__builtins__": {}}, NOTES)
    except Exception:
        note = None
    if not isinstance(note, shapes.Tensor) and note not in (shapes.Const, shapes.Axis):
        raise _fault(path, node, ast.unparse(annotation), expected)
    return note


def _fault(path: Path, node: ast.AST, found: str, expected: str) -> SignatureError:
    return SignatureError(f"{path}:{node.lineno}: found {found}; expected {expected}")
