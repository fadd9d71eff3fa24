"""Mutants: right files with one small bug each, of checks/mutants/*.toml.

A mutant names a file, a passage that stands there exactly once (`anchor`) and what it `becomes`:

    [[mutant]]
    name    = "backward_assigns_dweight"
    family  = "gradients"
    bug     = "= for +="
    file    = "ported/c_src/layernorm/backward_02_chunks.c"
    anchor  = "dweight[c] += sum;"
    becomes = "dweight[c] = sum;"

The patch is made in a throw-away copy of the checkout, at the file's own place, so that every other
file finds the patched one as it would find the right one. `kind` says what is expected: a `mutant`
must be refused, an `equivalent` one changes nothing that matters and must pass, an `honest` one is
another right way and must pass too.
"""

import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from ported.contract import DIRECTIONS, ROOT

FOLDER = Path(__file__).resolve().parent / "mutants"
FAMILIES = {
    "nothing": "nothing useful", "fitted": "right only for the test", "memory": "memory",
    "concurrency": "concurrency", "precision": "precision", "gradients": "gradients",
    "training": "training", "timing": "timing"}
KINDS = ("mutant", "equivalent", "honest")
GUARDED = ("steps", "training", "bench", "device")  # areas
KERNELS = ("ported/c_src", "cuda_src")
LEFT = (".git", ".venv", "runs", "build", ".pytest_cache", ".hypothesis", ".ruff_cache",
        "*.pyc.*")  # not copied


class MutantError(ValueError):
    """An entry that cannot be read; the message says where, what was found and what is known."""


class NotApplied(ValueError):
    """A patch whose anchor does not occur exactly once."""


@dataclass(frozen=True)
class Mutant:
    """One entry. `area` is the TOML file's name; `version` the kernel through which a header is
    judged; `device` is "cuda" where only a GPU shows the difference; `culprit`: what `compare.py
    --bisect` has to name."""

    area: str
    name: str
    family: str
    bug: str
    file: str
    anchor: str
    becomes: str
    kind: str = "mutant"
    dtype: str = ""
    version: str = ""
    device: str = ""
    why: str = ""
    culprit: str = ""
    guards: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.area}/{self.name}"

    @property
    def judged(self) -> Path:
        """The file that is judged, relative to the root."""
        return Path(self.version or self.file)

    @property
    def kernel(self) -> bool:
        """Whether the prover judges it. Guards judge what is no kernel, and kernels whose bug is
        one of steps, training or timing."""
        return self.area not in GUARDED and self.judged.as_posix().startswith(KERNELS)

    @property
    def operation(self) -> str:
        return self.judged.parent.name if self.kernel else self.area

    @property
    def direction(self) -> str:
        return self.judged.stem.partition("_")[0] if self.kernel else ""

    @cached_property
    def language(self) -> str:
        """c, cu, or py (of a kernel: a vendor's library)."""
        return self.judged.suffix[1:]

    @property
    def place(self) -> str:
        """The device it is judged on: cpu, emulated, cuda; host for what is no kernel."""
        if self.device:
            return self.device
        return {"c": "cpu", "cu": "emulated"}.get(self.language, "cuda") if self.kernel else "host"

    def occurrences(self, root: Path = ROOT) -> int:
        """How often the anchor stands in the file under `root`; 0 where there is no such file."""
        path = root / self.file
        return path.read_text().count(self.anchor) if path.is_file() else 0


KNOWN = tuple(field.name for field in fields(Mutant) if field.name != "area")
NEEDED = ("name", "family", "bug", "file", "anchor", "becomes")


def _entry(area: str, given: dict) -> Mutant:
    """One entry, checked; MutantError lists what is known."""
    where = f"{area}.toml: {given.get('name', 'an entry without a name')}"
    strangers, missing = set(given) - set(KNOWN), [key for key in NEEDED if key not in given]
    if strangers:
        raise MutantError(f"{where}: found {', '.join(sorted(strangers))}; known keys: "
                          f"{', '.join(KNOWN)}")
    if missing:
        raise MutantError(f"{where}: found no {', '.join(missing)}; needed: {', '.join(NEEDED)}")
    mutant = Mutant(area, **{**given, "guards": tuple(given.get("guards", ()))})
    for key, known in (("family", FAMILIES), ("kind", KINDS), ("device", ("", "cuda"))):
        if getattr(mutant, key) not in known:
            raise MutantError(f"{where}: found the {key} '{getattr(mutant, key)}'; known: "
                              f"{', '.join(filter(None, known))}")
    if mutant.kernel and mutant.direction not in DIRECTIONS:
        raise MutantError(f"{where}: found {mutant.judged}, which is no version; name the version "
                          "through which it is judged as `version`")
    if (mutant.device or mutant.kind == "equivalent") and not mutant.why:
        raise MutantError(f"{where}: found no `why`; a mutant for a GPU and an equivalent one "
                          "say why")
    return mutant


def read(path: Path) -> list[Mutant]:
    """The mutants of one TOML file; MutantError for unknown keys, families, and double names."""
    try:
        given = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise MutantError(f"{path.name}: {error}") from None
    if set(given) - {"mutant"}:
        raise MutantError(f"{path.name}: found {', '.join(sorted(set(given) - {'mutant'}))}; "
                          "expected [[mutant]] entries")
    found = [_entry(path.stem, entry) for entry in given.get("mutant", [])]
    names = [mutant.name for mutant in found]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise MutantError(f"{path.name}: found {', '.join(double)} twice; a name stands once")
    return found


def read_all(folder: Path = FOLDER) -> list[Mutant]:
    """Every mutant, by area."""
    return [mutant for path in sorted(folder.glob("*.toml")) for mutant in read(path)]


def copied(to: Path, root: Path = ROOT) -> Path:
    """A copy of the checkout, without what it can make anew."""
    shutil.copytree(root, to, ignore=shutil.ignore_patterns(*LEFT), symlinks=True)
    return to


def _write(path: Path, text: str) -> None:
    """Writes a source file; what Python compiled of it before must not be taken for it."""
    path.write_text(text)
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink(missing_ok=True)


@contextmanager
def applied(mutant: Mutant, tree: Path) -> Iterator[Path]:
    """The judged file in `tree`, patched while the context lasts. NotApplied where the anchor does
    not stand there exactly once."""
    path = tree / mutant.file
    count = mutant.occurrences(tree)
    if count != 1:
        found = f"the anchor {count} times" if path.is_file() else "no such file"
        raise NotApplied(f"{mutant.file}: found {found}; expected the anchor once")
    text = path.read_text()
    _write(path, text.replace(mutant.anchor, mutant.becomes))
    try:
        yield tree / mutant.judged
    finally:
        _write(path, text)


@contextmanager
def throw_away(root: Path = ROOT) -> Iterator[Path]:
    """A copy of the checkout that lasts as long as the context."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        yield copied(Path(folder) / "tree", root)
