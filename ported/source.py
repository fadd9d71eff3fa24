"""One version file -> its directives and its C signature. Nothing is compiled or imported here.

`ported/c_src/layernorm/forward_02_threads.c` is `layernorm_forward_02`; the path says all of it.
Directives are the lines that begin with `//@` (in a Python version file, `#@`).
"""

import hashlib
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ported import expressions
from ported.contract import DIRECTIONS, ROLES, ROOT

KNOWN = {
    "block": "block 128 256", "tune": "tune R 1 2 4", "static": "static C D",
    "grid": "grid ceil_div(N, block)", "shared": "shared C * 4",
    "launch": "launch fn grid=.. block=.. shared=.. cluster=..",
    "scratch": 'scratch part F32["P C"] zeroed', "needs": "needs C % 4 == 0",
    "inplace": "inplace dinp=dout", "dtype": "dtype F=bfloat16 R=float32 | all=float32",
    "flags": "flags -O3", "claims": "claims deterministic batch_invariant",
    "reject": "reject CHECK: reason (wrong kernels only)",
}
CLAIMS = ("deterministic", "batch_invariant", "float32", "no_tf32", "no_atomics")
DTYPES = {"float32": 4, "bfloat16": 2, "int32": 4}
C_TYPES = {"float32": {"float"}, "bfloat16": {"uint16_t", "__nv_bfloat16"},
           "int32": {"int", "int32_t"}}
SOURCES = {".c": "c_src", ".cu": "cuda_src"}
DEVICE_VALUES = ("threads",)
_FILE = re.compile(rf"({'|'.join(DIRECTIONS)})_(\d\d)_(\w+)\.(c|cu|py)")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)


class SourceError(ValueError):
    """A version file that cannot be read; the message says file, line, found and expected."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of the C function: `const float* inp` or `int N`."""

    name: str
    ctype: str
    pointer: bool
    const: bool


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


@dataclass(frozen=True)
class Version:
    """One numbered version of an operation, as its file states it."""

    path: Path
    operation: str
    direction: str
    number: int
    idea: str
    dtypes: tuple[dict[str, str], ...]
    block: tuple[int, ...]
    tune: dict[str, tuple[int, ...]]
    static: tuple[str, ...]
    needs: tuple[str, ...]
    scratch: tuple[Scratch, ...]
    inplace: dict[str, str]
    flags: tuple[str, ...]
    claims: tuple[str, ...]
    launches: tuple[Launch, ...]
    parameters: dict[str, tuple[Parameter, ...]]
    reject: str | None = None
    text: str = field(default="", repr=False)

    @property
    def contract_name(self) -> str:
        return f"{self.operation}_{self.direction}"

    @property
    def name(self) -> str:
        return f"{self.contract_name}_{self.number:02d}"

    @property
    def language(self) -> str:
        return self.path.suffix[1:]

    @cached_property
    def idea_name(self) -> str:
        return self.path.stem.split("_", 2)[-1] if _FILE.fullmatch(self.path.name) else ""

    def dtype_of(self, role: str, choice: dict[str, str] | None = None) -> str:
        """The dtype of a role under one of the file's dtype lines (the first by default)."""
        if role in ("F32", "I32"):
            return {"F32": "float32", "I32": "int32"}[role]
        choice = choice or self.dtypes[0]
        return choice.get(role, choice.get("all", "float32"))

    def configurations(self) -> list[dict[str, int]]:
        """Every combination of block and tune values, the file's first ones first."""
        choices: list[dict[str, int]] = [{}]
        named = dict(self.tune) | ({"block": self.block} if self.block else {})
        for name, values in named.items():
            choices = [choice | {name: value} for choice in choices for value in values]
        return choices

    def unmet_needs(self, values: dict[str, int]) -> list[str]:
        """The `needs` that do not hold for these axes and parameters."""
        return [need for need in self.needs if not expressions.evaluate(need, values)]

    @cached_property
    def meaning(self) -> str:
        """Source without comments and layout, headers of the project's own inlined, directives."""
        own = sorted(f"@{line}" for _, line in _directive_lines(self.text, self.path)
                     if not line.startswith("reject"))
        return "\n".join([*own, *_code_lines(self.text, self.path.parent, set())])

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.meaning.encode()).hexdigest()


def _header_path(name: str, folder: Path) -> Path | None:
    """A header of the project's own: beside the file, or in the tree's source folders."""
    places = (folder, folder.parent, *(ROOT / "ported" / "c_src", ROOT / "cuda_src"))
    return next((place / name for place in places if (place / name).is_file()), None)


def _code_lines(text: str, folder: Path, seen: set[Path]) -> list[str]:
    lines = []
    for line in _COMMENT.sub(" ", text).splitlines():
        words = " ".join(line.split())
        include = re.fullmatch(r'# ?include "([^"]+)"', words)
        header = _header_path(include.group(1), folder) if include else None
        if header is not None and header not in seen:
            seen.add(header)
            lines += _code_lines(header.read_text(), header.parent, seen)
        elif words and header is None:
            lines.append(words)
    return lines


def _directive_lines(text: str, path: Path) -> list[tuple[int, str]]:
    mark = "#@" if path.suffix == ".py" else "//@"
    return [(number, line.strip()[len(mark):].strip())
            for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith(mark)]


class _Directives:
    """Collects directives; every mistake names file, line, what was found and what is known."""

    def __init__(self, path: Path, text: str):
        self.path = path
        self.words: dict[str, list[tuple[int, str]]] = {}
        for number, line in _directive_lines(text, path):
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

    def claims(self) -> tuple[str, ...]:
        found = tuple(word for _, rest in self.lines("claims") for word in rest.split())
        for line, rest in self.lines("claims"):
            for word in rest.split():
                if word not in CLAIMS:
                    raise self.fail(line, f"claim '{word}'", f"one of {', '.join(CLAIMS)}")
        return found

    def inplace(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for _, rest in self.lines("inplace")
                    for pair in rest.split() if "=" in pair)


def _split_axes(text: str) -> tuple[str, ...]:
    """Axes are parted by spaces; spaces inside parentheses belong to an expression."""
    return tuple(re.findall(r"(?:[^\s(]|\([^)]*\))+", text))


def _parameters(path: Path, text: str, function: str) -> tuple[Parameter, ...]:
    code = _COMMENT.sub(" ", text)
    bounds = r"(?:__launch_bounds__\s*\([^)]*\)\s*)?"
    match = re.search(rf"\bvoid\s+{bounds}{function}\s*\(([^)]*)\)\s*{{", code)
    if not match:
        found = ", ".join(re.findall(r"\bvoid\s+(\w+)\s*\(", code)) or "no function"
        raise SourceError(f"{path}: found {found}; expected `void {function}(...)`")
    parameters = []
    for word in filter(None, (" ".join(p.split()) for p in match.group(1).split(","))):
        shape = re.fullmatch(r"(const )?([\w ]+?) ?(\*)? ?(?:(?:__)?restrict(?:__)? )?(\w+)", word)
        if not shape:
            raise SourceError(f"{path}: found parameter '{word}'; expected `const float* inp` or "
                              "`int N`")
        parameters.append(Parameter(shape[4], shape[2].strip(), bool(shape[3]), bool(shape[1])))
    return tuple(parameters)


def _idea(text: str, path: Path) -> str:
    """The comment lines at the head of the file, up to the first directive or code."""
    mark = "#" if path.suffix == ".py" else "//"
    prose = []
    for line in text.splitlines():
        if not line.startswith(mark) or line.startswith(mark + "@"):
            break
        prose.append(line[len(mark):].strip())
    return " ".join(prose).strip()


def read(path: Path, operation: str | None = None, direction: str | None = None) -> Version:
    """The version in one file. Outside the tree `operation` and `direction` name its contract.

    Raises SourceError for an unknown directive, a wrong value, a missing function or a file name
    that is not DIRECTION_NN_idea.c (.cu, .py).
    """
    path = Path(path)
    shape = _FILE.fullmatch(path.name)
    if shape is None and direction is None:
        raise SourceError(f"{path}: found the name '{path.name}'; expected DIRECTION_NN_idea.c "
                          f"with a direction of {', '.join(DIRECTIONS)}, as in forward_07_packed.c")
    direction = direction or shape.group(1)
    operation = operation or path.parent.name
    text = path.read_text()
    directives = _Directives(path, text)
    launches = directives.launches(f"{operation}_{direction}")
    functions = dict.fromkeys(launch.function for launch in launches)
    parameters = ({} if path.suffix == ".py" else
                  {function: _parameters(path, text, function) for function in functions})
    joined = {word: tuple(w for _, rest in directives.lines(word) for w in rest.split())
              for word in ("static", "flags")}
    return Version(
        path=path, operation=operation, direction=direction,
        number=int(shape.group(2)) if shape else 0, idea=_idea(text, path),
        dtypes=directives.dtypes(), tune=directives.tune(), scratch=directives.scratch(),
        block=tuple(v for line, rest in directives.lines("block")
                    for v in directives.integers(line, rest.split(), KNOWN["block"])),
        needs=tuple(directives.expression(line, rest) for line, rest in directives.lines("needs")),
        static=joined["static"], flags=joined["flags"], inplace=directives.inplace(),
        claims=directives.claims(), launches=launches, parameters=parameters,
        reject=next((rest for _, rest in directives.lines("reject")), None), text=text)


def read_all(root: Path = ROOT, language: str = "c") -> dict[str, Version]:
    """Every version of the tree by name; numbers must run from 01 without a gap."""
    base = root / "ported" / "c_src" if language == "c" else root / "cuda_src"
    found: dict[str, Version] = {}
    numbers: dict[str, list[int]] = {}
    for path in sorted(base.glob("*/*.*")):
        if path.suffix not in (".c", ".cu", ".py") or path.name == "__init__.py":
            continue
        version = read(path)
        if version.name in found:
            raise SourceError(f"{path}: found a second {version.name} beside "
                              f"{found[version.name].path.name}; give it the next number")
        found[version.name] = version
        numbers.setdefault(version.contract_name, []).append(version.number)
    for name, used in numbers.items():
        if used != list(range(1, len(used) + 1)):
            raise SourceError(f"{base}: {name} has the numbers {used}; expected 1 to {len(used)} "
                              "without a gap")
    return found
