"""One version file -> its directives and its C signature. Nothing is compiled or imported here.

`ported/c_src/layernorm/forward_02_threads.c` is `layernorm_forward_02`; the path says all of it.
Directives are the lines that begin with `//@` (in a Python version file, `#@`).
"""

import ast
import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from ported import expressions
from ported.contract import DIRECTIONS, ROOT, without_prose
from ported.directives import (
    CLAIMS,
    DTYPES,
    KNOWN,
    Directives,
    Launch,
    Scratch,
    SourceError,
    directive_lines,
)
from ported.parsing import parsed
from ported.precision import Precision

C_TYPES = {"float32": {"float"}, "bfloat16": {"uint16_t", "__nv_bfloat16"},
           "int32": {"int", "int32_t"}}
SOURCES = {".c": "c_src", ".cu": "cuda_src"}
DEVICES = ("cpu", "emulated", "cuda")  # modules of ported/device
DEVICE_VALUES = ("threads", "multiprocessors", "shared_limit")
_FILE = re.compile(rf"({'|'.join(DIRECTIONS)})_(\d\d)_(\w+)\.(c|cu|py)")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_INCLUDE = re.compile(r'# ?include "([^"]+)"')
_SHARED = (f"{ROOT}/ported/c_src", f"{ROOT}/cuda_src")  # what every file may take headers from


@dataclass(frozen=True)
class Parameter:
    """One parameter of the C function: `const float* inp` or `int N`."""

    name: str
    ctype: str
    pointer: bool
    const: bool


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
    products: str = "float32"
    concedes: tuple[str, ...] = ()
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

    def supports(self, precision: Precision, roles: Iterable[str]) -> bool:
        """Whether a dtype line of the file gives `roles` the dtypes of `precision`, and `products`
        rounds no factor further than `precision` lets it."""
        fits = any(all(self.dtype_of(role, choice) == precision.dtypes[role] for role in roles)
                   for choice in self.dtypes)
        return fits and self.products in ("float32", precision.products)

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
        own = sorted(f"@{line}" for _, line in directive_lines(self.text, self.path)
                     if not line.startswith("reject"))
        read = _python_lines if self.language == "py" else _code_lines
        return "\n".join([*own, *read(self.text, str(self.path.parent), set())])

    @cached_property
    def own(self) -> str:
        """Its code without comments, with headers that lie beside it; without shared ones."""
        return "\n".join(_code_lines(self.text, str(self.path.parent), set(), shared=False))

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.meaning.encode()).hexdigest()


# Texts by path, while the tree stands still.
_held: ContextVar[dict[str, str | None] | None] = ContextVar("held", default=None)


@contextlib.contextmanager
def held():
    """Within, this thread looks for each header and reads it once: the tree must not change. Files
    take long to open on some machines, and a start opens hundreds."""
    token = _held.set({})
    try:
        yield
    finally:
        _held.reset(token)


def _text(path: str) -> str | None:
    """The file's text; None where there is no such file."""
    known = _held.get()
    if known is not None and path in known:
        return known[path]
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        text = None
    if known is not None:
        known[path] = text
    return text


def _header(name: str, folder: str) -> tuple[str, str] | None:
    """(path, text) of a header of the project's own: beside the file, or in the tree's source
    folders."""
    for place in (folder, os.path.dirname(folder), *_SHARED):
        path = f"{place}/{name}"
        if (text := _text(path)) is not None:
            return path, text
    return None


@cache
def _pieces(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Runs of lines without comments, each word a space from the next: (header, lines), where an
    `#include "header"` is a run of its own and other runs have no header. Headers come often."""
    pieces, lines = [], []
    for words in (" ".join(line.split()) for line in _COMMENT.sub(" ", text).splitlines()):
        if words.startswith("#") and (include := _INCLUDE.fullmatch(words)):
            pieces.append(("", tuple(lines)))
            pieces.append((include[1], (words,)))
            lines = []
        elif words:
            lines.append(words)
    return (*pieces, ("", tuple(lines)))


def _is_shared(path: str) -> bool:
    """Whether a header lies in a folder that every file may take headers from, in any checkout."""
    place, name = os.path.split(os.path.abspath(path))
    return any(os.path.basename(place) == os.path.basename(folder)
               and os.path.isfile(f"{folder}/{name}") for folder in _SHARED)


def _code_lines(text: str, folder: str, seen: set[str], shared: bool = True) -> list[str]:
    """The pieces with the project's own headers in their places, each once; `shared`: those of all
    files too."""
    lines = []
    for name, words in _pieces(text):
        header = _header(name, folder) if name else None
        if header is None:
            lines += words
        elif header[0] not in seen and (shared or not _is_shared(header[0])):
            seen.add(header[0])
            lines += _code_lines(header[1], os.path.dirname(header[0]), seen, shared)
    return lines


def _python_lines(text: str, folder: str, seen: set[str]) -> list[str]:
    """A Python version as syntax, with what it stands on: the modules of ported/device that it
    imports (the devices themselves apart), and the .cu files that those name."""
    own, places = _syntax(text)
    lines = [own]
    for place in places:
        if place not in seen:
            seen.add(place)
            read = _python_lines if place.endswith(".py") else _code_lines
            lines += read(_text(place), os.path.dirname(place), seen)
    return lines


@cache
def _syntax(text: str) -> tuple[str, tuple[str, ...]]:
    """Python without prose, and the files of ours that it names."""
    tree, found = parsed(text), []
    own = ast.unparse(without_prose(tree)).replace('"', "'")  # Pythons differ in quotes
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ported.device"):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            found += [ROOT / (name.replace(".", "/") + ".py") for name in names]
        elif isinstance(node, ast.Constant) and str(node.value).endswith(".cu"):
            found.append(ROOT / "cuda_src" / str(node.value))
    return own, tuple(str(p) for p in found if p.is_file() and p.stem not in DEVICES)


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


def read(path: Path, operation: str | None = None, direction: str | None = None,
         directives: str = "") -> Version:
    """The version in one file. Outside the tree `operation` and `direction` name its contract, and
    `directives` holds lines that count as if they stood at its end.

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
    text = "\n".join(filter(None, [path.read_text(), directives]))
    directives = Directives(path, text)
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
        claims=directives.claims(), products=directives.products(), launches=launches,
        concedes=directives.concedes(),
        parameters=parameters,
        reject=next((rest for _, rest in directives.lines("reject")), None), text=text)


def folder(language: str) -> str:
    """Where versions of a language lie: c, or cu (Python files, vendor libraries, among them)."""
    return "ported/c_src" if language == "c" else "cuda_src"


def read_all(root: Path = ROOT, language: str = "c") -> dict[str, Version]:
    """Every version of the tree by name; numbers must run from 01 without a gap."""
    base = root / folder(language)
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


__all__ = ["CLAIMS", "C_TYPES", "DEVICE_VALUES", "DTYPES", "KNOWN", "Launch", "Parameter",
           "Scratch", "SourceError", "Version", "read", "read_all"]
