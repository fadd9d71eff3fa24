"""A kernel file from anywhere, read against the contract that it claims to keep.

The file needs the contract's C signature (names bind) and, in CUDA, directives that say how it is
launched; what is missing or wrong is an error that shows what to paste.
"""

import ast
import difflib
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from checks import select
from ported import binding, source
from ported import contract as contracts
from ported.contract import ROOT, Contract, Tensor
from ported.directives import KNOWN, directive_lines
from ported.source import SourceError, Version

SUFFIXES = {".c": "C, for the processor", ".cu": "CUDA C++",
            ".py": "a call of a vendor's library (README: Write a CUDA kernel)"}
ACCESS = {"in": "read only", "out": "overwritten", "sum": "added to what stands there",
          "inout": "read and overwritten"}
ROLES = {"F": "activations", "R": "the residual stream", "P": "parameters",
         "G": "gradients of parameters", "F32": "float32 always", "I32": "32-bit integers"}
DTYPES = ("all=float32", "F=bfloat16 R=bfloat16 P=bfloat16")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_FUNCTION = re.compile(r"\bvoid\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")


class FileError(ValueError):
    """A file that cannot be judged; the message says what to change."""


@dataclass(frozen=True)
class Given:
    """A file to be judged: its version, contract and precisions, and lines that count as its."""

    version: Version
    contract: Contract
    precisions: list[str]
    directives: str = ""

    @property
    def path(self) -> Path:
        return self.version.path


def read(path: Path, operation: str = "", directives: list[str] = ()) -> Given:
    """The file at `path`, against the contract called `operation`, or the one whose name a function
    of the file has. `directives`: more of them, as `block 256`. Raises FileError."""
    text = _text(path)
    name = operation or _called_like_one(path, text)
    contract = contract_named(name)
    mark = "#@" if path.suffix == ".py" else "//@"
    more = "\n".join(f"{mark} {line}" for line in directives)
    try:
        version = source.read(path.resolve(), contract.operation, contract.direction, more)
        _launched(version, contract)
        binding.check(version, contract)
    except SourceError as error:
        raise FileError(_with_signature(str(error), contract, path)) from None
    fit = select.precisions_of(version, contract, "c" if path.suffix == ".c" else "cu")
    if not fit:
        said = " | ".join(" ".join(map("=".join, choice.items())) for choice in version.dtypes)
        raise FileError(f"{path}: found `//@ dtype {said}`, which gives {contract.name} no "
                        f"precision; expected {' or '.join(DTYPES)}")
    return Given(version, contract, fit, more)


def _text(path: Path) -> str:
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path()
        names = [p.name for p in folder.iterdir() if p.suffix in SUFFIXES]
        near = difflib.get_close_matches(path.name, names, 3, 0.5)
        hint = f"; near it: {', '.join(str(folder / name) for name in near)}" if near else ""
        raise FileError(f"no file {path}{hint}")
    if path.suffix not in SUFFIXES:
        known = "; ".join(f"{suffix} ({what})" for suffix, what in SUFFIXES.items())
        raise FileError(f"{path}: found a file of the kind '{path.suffix}'; expected {known}")
    try:
        return path.read_text()
    except UnicodeDecodeError:
        raise FileError(f"{path}: is not text (UTF-8)") from None


def known() -> list[str]:
    """Every operation with its direction: `layernorm_forward`, ..."""
    return sorted(contracts.read_all())


def contract_named(name: str) -> Contract:
    """The contract called `name`; FileError that lists near names, or all."""
    names = known()
    if name in names:
        return contracts.of(name)
    near = [n for n in names if n.rpartition("_")[0] == name]
    near = near or difflib.get_close_matches(name, names, 4, 0.5)
    hint = f"near it: {', '.join(near)}\n" if near else ""
    raise FileError(f"OP={name}: no such operation; {hint}known operations:\n" + listed(names))


def listed(names: list[str]) -> str:
    """Names in lines of the terminal's width."""
    return textwrap.fill(", ".join(names), 96, initial_indent="  ", subsequent_indent="  ",
                         break_on_hyphens=False)


def _called_like_one(path: Path, text: str) -> str:
    """The operation that a function of the file is called like."""
    functions = list(dict.fromkeys(_FUNCTION.findall(_COMMENT.sub(" ", text))))
    found = [name for name in functions if name in known()]
    if len(found) == 1:
        return found[0]
    what = (f"functions called {' and '.join(found)}" if found else
            f"the functions {', '.join(functions[:8])}" if functions else "no function")
    raise FileError(f"{path}: which operation is it? found {what}; say OP=..., one of\n"
                    + listed(known()))


def _launched(version: Version, contract: Contract) -> None:
    """Raises where a CUDA file does not say how it is launched, or hides its function's name."""
    if version.language != "cu":
        return
    words = {line.partition(" ")[0] for _, line in directive_lines(version.text, version.path)}
    absent = [word for word in ("block", "grid") if word not in words]
    if absent and "launch" not in words:
        raise FileError(f"{version.path}: found no `//@ {'`, no `//@ '.join(absent)}`: a CUDA file "
                        f"says how it is launched\n{_block(contract)}")
    code = _COMMENT.sub(" ", version.text)
    for function in version.parameters:
        if not re.search(rf'extern\s+"C"\s*(?:\{{|[^;{{}}]*\b{function}\s*\()', code):
            raise SourceError(f'{version.path}: found {function} without extern "C", so that its '
                              "name is lost to the compiler")


def _block(contract: Contract) -> str:
    """Directives to paste: those of the tree's first version of the operation, and the words."""
    path = select.paths("cu").get(f"{contract.name}_01")
    lines = [line for _, line in directive_lines(path.read_text(), path)] if path else [
        "block 256", "grid ceil_div(N, block)", "dtype all=float32"]
    words = ("block", "grid", "launch", "shared", "dtype", "claims", "scratch", "needs")
    return "\n".join([
        "paste lines like these at its head (here those of this project's simplest version), or "
        "put them on\nthe command line (--block 256 --grid 'ceil_div(N, block)'):\n",
        *(f"    //@ {line}" for line in lines),
        "\n`block` is then a compile-time integer of the file; expressions are integer arithmetic "
        f"over the axes\n{', '.join(contract.axes)}. The words, by example:\n",
        *(f"    //@ {KNOWN[word]}" for word in words)])


def _with_signature(message: str, contract: Contract, path: Path) -> str:
    """An error about functions or parameters, with the signature that is expected."""
    about = ("expected `void", "does not fit", 'extern "C"', "found parameter")
    if path.suffix == ".py" or not any(words in message for words in about):
        return message
    return (f"{message}\nexpected (names bind, so the order is free; axes that the kernel does not "
            f"need may be left out):\n\n{signature(contract, path.suffix)}")


def _declared(tensor: Tensor, suffix: str) -> str:
    kind = {"F32": "float", "I32": "int"}.get(tensor.role)
    kind = kind or (tensor.role if suffix == ".cu" else "float")
    return f"{'const ' * (tensor.access == 'in')}{kind}* {tensor.name}"


def signature(contract: Contract, suffix: str = ".c") -> str:
    """The C function that the contract expects, ready to paste."""
    ordered = [*contract.outputs, *(t for t in contract.tensors if t.access == "in")]
    words = [*(_declared(t, suffix) for t in ordered), *(f"int {a}" for a in contract.axes),
             *(f"float {name}" for name in contract.consts)]
    kind = 'extern "C" __global__ ' if suffix == ".cu" else ""
    lines = textwrap.wrap(", ".join(word.replace(" ", "\0") for word in words), 96,
                          initial_indent=f"{kind}void {contract.name}(", subsequent_indent=" " * 8)
    return "\n".join(lines).replace("\0", " ") + ") {\n}"


def says(contract: Contract) -> str:
    """What an operation is, in a line: the first of its explicit file."""
    path = ROOT / "reference" / "explicit" / f"{contract.operation}.py"
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def described(contract: Contract) -> str:
    """An operation for somebody who wants to write a kernel of it: signatures, arguments, and what
    it computes."""
    path = ROOT / "reference" / "explicit" / f"{contract.operation}.py"
    text = path.read_text()
    tree = ast.parse(text)
    body = next(ast.get_source_segment(text, node) for node in tree.body
                if isinstance(node, ast.FunctionDef) and node.name == contract.direction)
    rows = [f"    {t.name:10} {t.role:4} [{', '.join(t.axes)}]  {ACCESS[t.access]}"
            + ("; one number that changes from step to step" if t.dyn else "")
            for t in contract.tensors]
    rows += [f"    {name:10} a number by value, {default:g} unless said (float or double)"
             for name, default in contract.consts.items()]
    roles = [f"    {role:4} {ROLES[role]}" for role in contract.roles]
    narrow = "  (float32; in the precision bfloat16, F, R and P are __nv_bfloat16)"
    return "\n".join([
        f"{contract.name}: {says(contract)}", "",
        "In C:", "", signature(contract, ".c"), "", "In CUDA:", "", signature(contract, ".cu"), "",
        "Arguments (row-major; names bind, so the order is free):", *rows, "", f"Roles:{narrow}",
        *roles, "", f"What it computes (the derivation stands in {path.relative_to(ROOT)}):", "",
        textwrap.indent(body, "    "), "",
        "A CUDA file needs directives besides:", "", _block(contract)])
