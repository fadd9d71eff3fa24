"""Python's own syntax trees, made by one thread at a time.

CPython 3.11 (seen with 3.11.7) counts the depth of a tree that it builds in one place for all
threads: where another thread builds one in between, `ast.parse` ends with a SystemError.
"""

import ast
import threading

ONE = threading.RLock()


def parsed(text: str, mode: str = "exec") -> ast.AST:
    """`ast.parse`, as often and from as many threads as wanted."""
    with ONE:
        return ast.parse(text, mode=mode)


__all__ = ["ONE", "parsed"]
