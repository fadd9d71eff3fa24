"""Integer arithmetic in directives and axes: `ceil_div(N, block / 32)`, `C % 16 == 0`, `3*H*D`.

`/` is floor division. Names are axes and parameters; anything that is not integer arithmetic,
a comparison or and/or/not is refused by name.
"""

import ast
import operator
from collections.abc import Mapping
from functools import cache

from ported.parsing import parsed

_BINARY = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.floordiv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}
_COMPARE = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}
_FUNCTIONS = {"ceil_div": lambda a, b: -(-a // b), "min": min, "max": max}


class ExpressionError(ValueError):
    """An expression that is not integer arithmetic, or that uses an unknown name."""


@cache
def parse(text: str) -> ast.expr:
    """The syntax tree of `text`; raises ExpressionError with the position where it is not one."""
    try:
        return parsed(text.strip(), "eval").body
    except SyntaxError as error:
        raise ExpressionError(f"'{text}' is not an expression (column {error.offset})") from None


@cache
def names(text: str) -> frozenset[str]:
    """The axes and parameters that `text` reads, functions left out."""
    found = {node.id for node in ast.walk(parse(text)) if isinstance(node, ast.Name)}
    return frozenset(found - set(_FUNCTIONS))


def evaluate(text: str, values: Mapping[str, int]) -> int:
    """`text` as an integer (comparisons give True or False), names taken from `values`."""
    return _evaluate(parse(text), values, text)


def _evaluate(node: ast.expr, values: Mapping[str, int], text: str) -> int:
    def go(part: ast.expr) -> int:
        return _evaluate(part, values, text)

    match node:
        case ast.Constant(value=int() as number):
            return number
        case ast.Name(id=name):
            if name not in values:
                known = ", ".join(sorted(values)) or "none"
                raise ExpressionError(f"'{text}' uses {name}; known here: {known}")
            return values[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            divisor = go(right)
            if divisor == 0 and not isinstance(op, ast.Add | ast.Sub | ast.Mult):
                raise ExpressionError(f"'{text}' divides by zero")
            return _BINARY[type(op)](go(left), divisor)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -go(operand)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not go(operand)
        case ast.BoolOp(op=op, values=parts):
            # lazily, so that `C > 0 and N % C == 0` is safe
            return (all if isinstance(op, ast.And) else any)(go(part) for part in parts)
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            return _COMPARE[type(op)](go(left), go(right))
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(go(argument) for argument in arguments))
    raise ExpressionError(
        f"'{text}' holds {ast.unparse(node)}; allowed: integers, names, + - * / %, comparisons, "
        f"and or not, {', '.join(sorted(_FUNCTIONS))}"
    )
