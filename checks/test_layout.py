"""The layout is the architecture: import arrows, budgets, and what it takes to add a piece."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ported import source
from ported.contract import ROOT

TREES = ("reference", "ported", "cuda_src", "checks")
TORCH_FREE = ("ported", "cuda_src", "reference/shapes.py", "reference/program.py",
              "reference/rewrites.py", "reference/programs", "train.py")
ARROWS = {"reference": ("ported", "checks", "train", "compare"),
          "ported": ("checks", "train", "compare"),
          "cuda_src": ("checks", "reference", "train", "compare"),
          "train.py": ("checks", "compare")}
KERNELS = ("ported/c_src", "cuda_src")
PTX = ("cuda_src/common.cuh", "cuda_src/ptx.cuh")  # inline PTX, each with its emulated twin


def python_files(*places: str) -> list[Path]:
    found = []
    for place in places or (*TREES, "train.py", "compare.py", "conftest.py"):
        path = ROOT / place
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return [path for path in found if path.is_file()]


def imported(path: Path) -> set[str]:
    """Top names of every import of a file, late ones included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
        elif (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)
              and ast.unparse(node.func) in ("importlib.import_module", "__import__")):
            names.add(str(node.args[0].value).split(".")[0])
    return names


@pytest.mark.parametrize("tree", ARROWS)
def test_imports_point_one_way(tree):
    wrong = [f"{path.relative_to(ROOT)} imports {name}" for path in python_files(tree)
             for name in imported(path) & set(ARROWS[tree])]
    assert not wrong, "\n".join(wrong)


def test_the_world_without_pytorch():
    wrong = [str(path.relative_to(ROOT)) for path in python_files(*TORCH_FREE)
             if imported(path) & {"torch", "transformers"}]
    assert not wrong, f"these import torch: {wrong}"


def test_train_starts_without_torch():
    code = "import sys, train; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def functions(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.end_lineno - node.lineno + 1


def files(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def kernel_files() -> list[Path]:
    return files(*(f"{place}/**/*.{kind}" for place in KERNELS
                   for kind in ("c", "cu", "py", "h", "cuh")))


def too_wide(path: Path) -> list[str]:
    """Lines over 100 characters; a directive cannot be broken and may have 120."""
    return [f"{path.relative_to(ROOT)}:{number}: {len(line)} wide"
            for number, line in enumerate(path.read_text().splitlines(), 1)
            if len(line) > (120 if line.startswith(("//@", "#@")) else 100)]


def too_long(path: Path, budget: int) -> list[str]:
    length = len(path.read_text().splitlines())
    return [f"{path.relative_to(ROOT)}: {length} of {budget} lines"] if length > budget else []


def test_budgets_of_python():
    """Files, functions and lines stay readable; every overrun is named."""
    over = []
    for path in python_files():
        name = str(path.relative_to(ROOT))
        over += too_long(path, 250 if name in ("train.py", "compare.py") else 350) + too_wide(path)
        over += [f"{name}: {function}: {length} of 40 lines"
                 for function, length in functions(path) if length > 40]
    assert not over, "\n".join(over)


def test_budgets_of_kernels():
    """A version has 200 lines, or a head comment that says why more than 200; a header 400."""
    over = []
    for path in kernel_files():
        head = re.match(r"(?:(?://|#).*\n)*", path.read_text()).group()
        long = path.suffix in (".h", ".cuh") or "more than 200" in head
        over += too_long(path, 400 if long else 200) + too_wide(path)
    assert not over, "\n".join(over)


def test_budgets_of_the_emulated_device():
    place = "ported/device/emulation"
    over = [fault for path in files(f"{place}/*.cpp", f"{place}/*.h", f"{place}/include/**/*.h")
            for fault in too_long(path, 350) + too_wide(path)]
    assert not over, "\n".join(over)


def test_budgets_of_the_makefile_and_of_golden():
    makefile = (ROOT / "Makefile").read_text()
    assert not too_long(ROOT / "Makefile", 80)
    assert "ifeq" not in makefile and "ifdef" not in makefile
    kept = sum(path.stat().st_size for path in (ROOT / "golden").rglob("*") if path.is_file())
    assert kept <= 20 << 20, f"golden holds {kept} bytes; its budget is 20 MB"


@pytest.mark.parametrize("language", ["c", "cu"])
def test_a_ladder_has_every_number_once(language):
    """read_all refuses gaps and pairs; and a folder of kernels holds versions and headers alone."""
    versions = source.read_all(language=language)
    taken = {version.path for version in versions.values()}
    strangers = [str(path.relative_to(ROOT)) for path in files(f"{source.folder(language)}/*/*")
                 if path.is_file() and path not in taken and path.suffix not in (".h", ".cuh")]
    assert len(versions) > 20 and not strangers, strangers


def test_inline_ptx_stands_in_two_headers():
    wrong = [str(path.relative_to(ROOT)) for path in files("cuda_src/**/*.cu*")
             if re.search(r"\basm\b", path.read_text())]
    assert set(wrong) <= set(PTX), wrong


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the tree to add things to."""
    target = tmp_path_factory.mktemp("copy") / "trivium"
    ignored = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", ".pytest_cache",
                                     ".hypothesis", ".ruff_cache")
    shutil.copytree(ROOT, target, ignore=ignored)
    return target


def prove(tree: Path, kernel: str, *where: str) -> str:
    """What pytest says of the proof; its own test fails where the proof does."""
    command = [sys.executable, "-m", "pytest", "checks", "--kernel", kernel, "--device", *where]
    result = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("place,suffix,where", [
    ("ported/c_src", "c", ["cpu"]), ("cuda_src", "cu", ["emulated", "--dtype", "bfloat16"])])
def test_a_new_version_touches_one_file(copy, place, suffix, where):
    folder = copy / place / "layernorm"
    number = len(list(folder.glob("forward_[0-9][0-9]_*.*"))) + 1
    name = f"forward_{number:02d}_again.{suffix}"
    shutil.copy(folder / f"forward_01_loops.{suffix}", folder / name)
    assert f"layernorm_forward_{number:02d}" in prove(
        copy, f"layernorm_forward_{number:02d}", *where)


@pytest.mark.parametrize("place,suffix,where", [
    ("ported/c_src", "c", ["cpu"]), ("cuda_src", "cu", ["emulated"])])
def test_a_new_layer_touches_stock_explicit_and_a_kernel_file_a_direction(
        copy, place, suffix, where):
    """RMSNorm, from four files that nothing else names."""
    given = copy / "checks" / "fixtures" / "rmsnorm"
    shutil.copy(given / "explicit.py", copy / "reference" / "explicit" / "rmsnorm.py")
    shutil.copy(given / "stock.py", copy / "reference" / "stock" / "rmsnorm.py")
    (copy / place / "rmsnorm").mkdir()
    for path in given.glob(f"*.{suffix}"):
        shutil.copy(path, copy / place / "rmsnorm")
    said = prove(copy, "rmsnorm_*", *where)
    assert "rmsnorm_forward_01" in said and "rmsnorm_backward_01" in said
