"""README's commands run: as they stand where that is quick, else made small by flags; those that
want a GPU do not, here."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--steps", "2", "--batch", "2", "--sequence-length", "16", "--eval-sequences", "2"]
# Of each command what is put behind it here, or why it is not run from a test.
BEHIND = {
    "make train": [*SMALL, "--sample-tokens", "4"],
    "make test": "this is it",
    "make test-all": "it holds this test",
    "make verify": [],
    "make verify FILE=": "the file is the reader's own; test_verify_file.py judges some",
    "make verify OP=": [],
    "make bench": ["--only", "residual_forward"],
    "make bench ARGS=--step": "a minute, and two copies of GPT-2 124M in memory",
    "make bench ARGS=--write": "it writes into the tree",
    "make docs": "it writes into the tree; whether it would is tested below",
    "make tune": "it changes what this user's trainer chooses",
    "make mutants": "it takes most of an hour",
    "make mutants ARGS=--sample": "test_mutants.py runs a sample",
    "make mutants ARGS=\"--only": ["--only", "residual/forward_rounds_toward_zero"],
    "-m checks.refusals --gpu": "it needs a GPU",
    "make help": [],
    "make profile": [*SMALL[2:6], "--model", "test"],
    "make cuda": "it builds PyCUDA, which takes minutes",
    "make sanitize": "it needs a GPU",
    "make evidence": "it writes into the tree",
    "pytest checks --kernel": [],
    "-m checks.sanitize": "it needs a GPU",
    "-m checks.prove --all": "it proves everything",
    "-m checks.prove --kernel '*' --tier seeds": "it takes minutes",
    "train.py --help": [],
    "train.py --data": "my.txt is the reader's own",
    "train.py --model": "a step of 124 million parameters: `make bench` times it",
    "compare.py": SMALL[:6],
    "compare.py --bisect": SMALL[:6],
    "compare.py runs/A": "test_compare.py compares logs",
}


def commands() -> list[str]:
    """The commands in README's indented blocks and in its prose, without comments."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^ {4}((?:make|python|pytest) .*)$", text, re.M)
    found += re.findall(r"`(make [^`]+|python -m checks[^`]+)`", text)
    plain = (re.sub(r" +# .*", "", line.replace("\n", " ")).removeprefix("python ").strip()
             for line in found)
    return list(dict.fromkeys(line for line in plain if "`" not in line))


def kind(command: str) -> str:
    """The longest key of BEHIND that the command begins with."""
    return max((key for key in BEHIND if command.startswith(key)), key=len, default="")


def reason_not_to_run(command: str) -> str:
    """Why no test runs the command; empty for those that one runs."""
    if "--device cuda" in command:
        return "it needs a GPU"
    behind = BEHIND.get(kind(command), "")
    return behind if isinstance(behind, str) else ""


def recipe(command: str, target: Path) -> list[str]:
    """What the command runs, with this Python, small, its runs under `target`."""
    behind = BEHIND[kind(command)]
    if command.startswith("make"):
        dry = subprocess.run([*shlex.split(command), "-n", "-o", ".venv/ready"], cwd=ROOT,
                             env=outside(), capture_output=True, text=True, check=True).stdout
        lines = [line for line in dry.splitlines() if "python " in line and "-m venv" not in line]
        words = shlex.split(lines[-1]) if lines else shlex.split(command)
    else:
        module = ["-m"] if command.startswith("pytest ") else []
        words = [sys.executable, *module, *shlex.split(command)]
    words = [sys.executable if word == ".venv/bin/python" else word for word in words]
    leaves = ("train.py", "compare.py", "checks.profiling")
    out = ["--out", str(target)] if set(words[1:3]) & set(leaves) else []
    return [*words, *behind, *(out if "--help" not in words else [])]


def outside() -> dict[str, str]:
    """The environment without what a `make test ARGS=...` around this test has put there."""
    inside = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL", "ARGS", "KERNEL",
              "FILE", "OP")
    return {name: value for name, value in os.environ.items() if name not in inside}


def test_every_command_is_known_here():
    unknown = [command for command in commands()
               if not kind(command) and not reason_not_to_run(command)]
    assert len(commands()) > 8 and not unknown, f"README has commands that no test runs: {unknown}"


@pytest.mark.parametrize("command", commands())
def test_command_runs(command, tmp_path):
    reason = reason_not_to_run(command)
    if reason:
        pytest.skip(f"{command}: {reason}")
    words = recipe(command, tmp_path)
    result = subprocess.run(words, cwd=ROOT, env=outside(), capture_output=True, text=True,
                            timeout=400)
    assert result.returncode == 0, f"{shlex.join(words)}\n{result.stdout}\n{result.stderr}"
    assert result.stdout.strip()


def test_generated_parts_are_todays():
    from checks import docs

    text = docs.README.read_text()
    assert docs.generated(text) == text, "write them with `make docs`"


def test_the_example_is_a_file_of_the_tree():
    shown = re.search(r"<!-- example -->\n(.*?)<!-- end of example -->",
                      (ROOT / "README.md").read_text(), re.S)
    file = ROOT / "checks" / "fixtures" / "rmsnorm" / "forward_01_rows.cu"
    assert textwrap.dedent(shown.group(1)) == file.read_text()


def test_every_file_that_it_links_to_is_there():
    links = re.findall(r"\]\(([\w./]+)\)", (ROOT / "README.md").read_text())
    assert len(links) > 5 and not [link for link in links if not (ROOT / link).exists()]
