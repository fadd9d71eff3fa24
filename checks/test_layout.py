"""The layout is the architecture: import arrows, budgets, and what it takes to add a piece."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TREES = ("reference", "ported", "checks")
TORCH_FREE = ("ported", "reference/shapes.py", "reference/program.py", "reference/rewrites.py",
              "reference/programs", "train.py")
ARROWS = {"reference": ("ported", "checks", "train", "compare"),
          "ported": ("checks", "train", "compare"),
          "train.py": ("checks", "compare")}


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


def test_budgets():
    """Files, functions and lines stay readable; every overrun is named."""
    over = []

    def within(what, found: int, budget: int):
        if found > budget:
            over.append(f"{what}: {found} of {budget} lines")

    for path in python_files():
        name = path.relative_to(ROOT)
        lines = path.read_text().splitlines()
        within(name, len(lines), 250 if str(name) in ("train.py", "compare.py") else 350)
        for function, length in functions(path):
            within(f"{name}: {function}", length, 40)
        over.extend(f"{name}:{number}: {len(line)} wide" for number, line in enumerate(lines, 1)
                    if len(line) > 100)
    for path in sorted((ROOT / "ported" / "c_src").glob("*/*.c")):
        within(path.relative_to(ROOT), len(path.read_text().splitlines()), 200)
    makefile = (ROOT / "Makefile").read_text()
    within("Makefile", len(makefile.splitlines()), 80)
    assert "ifeq" not in makefile and "ifdef" not in makefile
    kept = sum(path.stat().st_size for path in (ROOT / "golden").rglob("*") if path.is_file())
    assert kept <= 20 << 20, f"golden holds {kept} bytes; its budget is 20 MB"
    assert not over, "\n".join(over)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the tree to add things to."""
    target = tmp_path_factory.mktemp("copy") / "trivium"
    ignored = shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__", ".pytest_cache",
                                     ".hypothesis", ".ruff_cache")
    shutil.copytree(ROOT, target, ignore=ignored)
    return target


def prove(tree: Path, kernel: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "checks", "--kernel", kernel, "--device", "cpu"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=240)


def test_a_new_version_touches_one_file(copy):
    folder = copy / "ported" / "c_src" / "layernorm"
    number = len(list(folder.glob("forward_*.c"))) + 1
    shutil.copy(folder / "forward_01_loops.c", folder / f"forward_{number:02d}_again.c")
    result = prove(copy, f"layernorm_forward_{number:02d}")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"layernorm_forward_{number:02d}" in result.stdout


def test_a_new_layer_touches_stock_explicit_and_a_kernel_file_a_direction(copy):
    """RMSNorm, from four files that nothing else names."""
    given = copy / "checks" / "fixtures" / "rmsnorm"
    shutil.copy(given / "explicit.py", copy / "reference" / "explicit" / "rmsnorm.py")
    shutil.copy(given / "stock.py", copy / "reference" / "stock" / "rmsnorm.py")
    folder = copy / "ported" / "c_src" / "rmsnorm"
    folder.mkdir()
    for name in ("forward_01_loops.c", "backward_01_loops.c"):
        shutil.copy(given / name, folder / name)
    result = prove(copy, "rmsnorm_*")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "rmsnorm_forward_01" in result.stdout and "rmsnorm_backward_01" in result.stdout
