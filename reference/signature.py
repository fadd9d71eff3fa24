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
    """Signature of `<operation>_<direction>`. Raises ValueError for one that does not exist."""
    operation, direction = split(op)
    path = EXPLICIT / f"{operation}.py"
    body = ast.parse(path.read_text()).body if path.is_file() else []
    named = {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    if direction not in DIRECTIONS or direction not in named:
        raise ValueError(
            f"operation {op}: found no {direction}() in reference/explicit/{operation}.py, "
            f"expected one of {', '.join(operations())} with _{', _'.join(DIRECTIONS)} behind it"
        )
    function, result = named[direction].args, named[direction.capitalize()]
    arguments = {argument.arg: _value(argument.annotation) for argument in function.args}
    with_default = list(arguments)[len(arguments) - len(function.defaults) :]
    defaults = map(ast.literal_eval, function.defaults)
    fields = [node for node in result.body if isinstance(node, ast.AnnAssign)]
    return Signature(
        arguments,
        {field.target.id: _value(field.annotation) for field in fields},
        dict(zip(with_default, defaults, strict=True)),
    )


def _value(annotation: ast.expr):
    return eval(ast.unparse(annotation), dict(vars(shapes)))
