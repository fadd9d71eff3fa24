"""The lines of a version file that begin with `//@` (in a Python version file, `#@`)."""

import re
from dataclasses import dataclass
from pathlib import Path

from ported import expressions
from ported.contract import ROLES

KNOWN = {
    "block": "block 128 256", "tune": "tune R 1 2 4", "static": "static C D",
    "grid": "grid ceil_div(N, block)", "shared": "shared C * 4",
    "launch": "launch fn grid=.. block=.. shared=.. cluster=..",
    "scratch": 'scratch part F32["P C"] zeroed', "needs": "needs C % 4 == 0",
    "inplace": "inplace dinp=dout", "dtype": "dtype F=bfloat16 R=float32 | all=float32",
    "flags": "flags -O3", "claims": "claims deterministic batch_invariant",
    "products": "products tf32", "reject": "reject CHECK: reason (wrong kernels only)",
    "concedes": "concedes nan denormals chopped (what the hardware or a library does not keep)",
    "spills": "spills 12 (loads and stores of local memory in the machine code)",
}
CLAIMS = ("deterministic", "batch_invariant", "float32", "no_tf32", "no_atomics")
DTYPES = {"float32": 4, "bfloat16": 2, "int32": 4}
# What a version may say that it does not keep; the prover then asks for the rest.
CONCESSIONS = {
    "nan": "a NaN may reach more, an infinity less, than in the mathematics (0 * NaN; clamping)",
    "denormals": "numbers below 2^-126 may be lost on the way",
    "chopped": "tensor cores cut their float32 sums off, so that these lean toward zero",
}
PRODUCTS = ("float32", "tf32", "bfloat16")


class SourceError(ValueError):
    """A version file that cannot be read; the message says file, line, found and expected."""


@dataclass(frozen=True)
class Scratch:
    """Temporary memory: role, axes as expressions, and whether it starts as zeros."""

    name: str
    role: str
    axes: tuple[str, ...]
    zeroed: bool


@dataclass(frozen=True)
class Launch:
    """One launch of a version: the function, and grid, block, shared, cluster as expressions."""

    function: str
    grid: str = "1"
    block: str = "1"
    shared: str = "0"
    cluster: str = "1"


def directive_lines(text: str, path: Path) -> list[tuple[int, str]]:
    mark = "#@" if path.suffix == ".py" else "//@"
    return [(number, line.strip()[len(mark):].strip())
            for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith(mark)]


class Directives:
    """Collects directives; every mistake names file, line, what was found and what is known."""

    def __init__(self, path: Path, text: str):
        self.path = path
        self.words: dict[str, list[tuple[int, str]]] = {}
        for number, line in directive_lines(text, path):
            word, _, rest = line.partition(" ")
            if word not in KNOWN:
                raise self.fail(number, f"directive '{word}'", f"one of {', '.join(KNOWN)}")
            self.words.setdefault(word, []).append((number, rest.strip()))

    def fail(self, line: int, found: str, expected: str) -> SourceError:
        return SourceError(f"{self.path}:{line}: found {found}; expected {expected}")

    def lines(self, word: str) -> list[tuple[int, str]]:
        return self.words.get(word, [])

    def integers(self, line: int, words: list[str], like: str) -> tuple[int, ...]:
        if not words or not all(word.isdigit() for word in words):
            raise self.fail(line, f"'{' '.join(words)}'", f"integers, as in '{like}'")
        return tuple(int(word) for word in words)

    def expression(self, line: int, text: str) -> str:
        try:
            expressions.parse(text)
        except expressions.ExpressionError as error:
            raise self.fail(line, str(error), "integer arithmetic over axes") from None
        return text

    def dtypes(self) -> tuple[dict[str, str], ...]:
        choices = []
        for line, rest in self.lines("dtype") or [(1, "all=float32")]:
            for alternative in rest.split("|"):
                choice = dict(pair.split("=", 1) for pair in alternative.split() if "=" in pair)
                wrong = [k for k, v in choice.items()
                         if k not in (*ROLES, "all") or v not in DTYPES]
                if not choice or wrong:
                    raise self.fail(line, f"dtype '{alternative.strip()}'",
                                    f"ROLE=DTYPE with {', '.join(ROLES)} and {', '.join(DTYPES)}")
                choices.append(choice)
        return tuple(choices)

    def scratch(self) -> tuple[Scratch, ...]:
        found = []
        for line, rest in self.lines("scratch"):
            match = re.fullmatch(r'(\w+) (\w+)\["([^"]+)"\]( zeroed)?', rest)
            if not match or match.group(2) not in ROLES:
                raise self.fail(line, f"'{rest}'", KNOWN["scratch"])
            axes = _split_axes(match.group(3))
            for axis in axes:
                self.expression(line, axis)
            found.append(Scratch(match[1], match[2], axes, bool(match[4])))
        return tuple(found)

    def tune(self) -> dict[str, tuple[int, ...]]:
        found = {}
        for line, rest in self.lines("tune"):
            name, *values = rest.split()
            found[name] = self.integers(line, values, KNOWN["tune"])
        return found

    def launches(self, function: str) -> tuple[Launch, ...]:
        found = []
        for line, rest in self.lines("launch"):
            name, *pairs = rest.split()
            settings = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
            if len(settings) != len(pairs) or set(settings) - {"grid", "block", "shared",
                                                               "cluster"}:
                raise self.fail(line, f"'{rest}'", KNOWN["launch"] + " (no spaces inside)")
            found.append(Launch(name, **{k: self.expression(line, v)
                                         for k, v in settings.items()}))
        if found:
            return tuple(found)
        one = {word: self.expression(line, rest) for word in ("grid", "shared")
               for line, rest in self.lines(word)}
        return (Launch(function, block="block" if self.lines("block") else "1", **one),)

    def concedes(self) -> tuple[str, ...]:
        found = tuple(word for _, rest in self.lines("concedes") for word in rest.split())
        for line, rest in self.lines("concedes"):
            for word in rest.split():
                if word not in CONCESSIONS:
                    raise self.fail(line, f"concession '{word}'",
                                    f"one of {', '.join(CONCESSIONS)}")
        return found

    def claims(self) -> tuple[str, ...]:
        found = tuple(word for _, rest in self.lines("claims") for word in rest.split())
        for line, rest in self.lines("claims"):
            for word in rest.split():
                if word not in CLAIMS:
                    raise self.fail(line, f"claim '{word}'", f"one of {', '.join(CLAIMS)}")
        return found

    def products(self) -> str:
        for line, rest in self.lines("products"):
            if rest not in PRODUCTS:
                raise self.fail(line, f"products '{rest}'", f"one of {', '.join(PRODUCTS)}")
        return self.lines("products")[-1][1] if self.lines("products") else "float32"

    def inplace(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for _, rest in self.lines("inplace")
                    for pair in rest.split() if "=" in pair)


def _split_axes(text: str) -> tuple[str, ...]:
    """Axes are parted by spaces; spaces inside parentheses belong to an expression."""
    return tuple(re.findall(r"(?:[^\s(]|\([^)]*\))+", text))
