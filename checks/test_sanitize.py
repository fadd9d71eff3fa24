"""What compute-sanitizer says, read: whose kernel a report is about. The tools need a GPU."""

import subprocess
from types import SimpleNamespace

import pytest

from checks import sanitize

HEAD = "========= COMPUTE-SANITIZER"
OURS = """========= Uninitialized __global__ memory read of size 16 bytes
=========     at __ldcs(const int4 *)+0xbc0 in sm_32_intrinsics.hpp:255
=========     by thread (0,0,0) in block (0,0,0)"""
RACE = """========= Error: Race reported between Write access at gelu_forward+0x5c in forward.cu:12
=========     and Read access at gelu_forward+0x1470 in forward.cu:14 [168 hazards]"""
BARE = "========= Error: Race reported between Write access at gelu_forward+0x5c"
THEIRS = """========= Error: Race reported between Write access at cudnn_generated_bprop+0x50c
=========     and Read access at cudnn_generated_bprop+0x1470 [168 hazards]"""
MIXED = """========= Error: Race reported between Write access at cudnn_generated_bprop+0x50c
=========     and Read access at gelu_forward+0x1470 [168 hazards]"""
BARRIER = """========= Barrier error detected. Divergent thread(s) in block.
=========     at cudnn_generated_fprop+0x3f40
=========     by thread (32,0,0) in block (0,0,0)"""
ELSE = "========= Target application terminated before first instrumented API call"
MORE = "========= ERROR SUMMARY: 897 errors were not printed. Use --print-limit option to adjust"
TWO = ["cudnn_generated_bprop", "cudnn_generated_fprop"]


@pytest.mark.parametrize("said,kernels", [
    (OURS, []), (RACE, []), (BARE, []), (THEIRS, TWO[:1]), (f"{THEIRS}\n{BARRIER}", TWO),
    (MIXED, []), (f"{THEIRS}\n{OURS}", []), (f"{RACE}\n{BARRIER}", []), (f"{THEIRS}\n{ELSE}", []),
    (f"{THEIRS}\n{MORE}", []), ("", [])])
def test_whose_kernel_a_report_is_about(said, kernels):
    """cuDNN's only where every report is about its kernels alone, and all were printed."""
    assert sanitize.generated(f"{HEAD}\n{said}") == kernels


@pytest.fixture
def tools(monkeypatch):
    """Stand-ins: each finds in a version what `says` has for it; `asked` are their commands."""
    found = SimpleNamespace(says={}, asked=[])

    def run(command, **_):
        found.asked.append(command)
        tool, names = command[2], command[command.index("--launch") + 1].split(",")
        said = [found.says[tool, name] for name in names if (tool, name) in found.says]
        text = "\n".join([HEAD, *said, *(f"launched {name} 3" for name in names),
                          f"========= ERROR SUMMARY: {len(said)} errors"])
        return SimpleNamespace(stdout=text, stderr="", returncode=sanitize.FAULT if said else 0)

    monkeypatch.setattr("sys.argv", ["", "--kernel", "gelu_forward_01,attention_forward_06"])
    monkeypatch.setattr(sanitize.shutil, "which", lambda name: name)
    monkeypatch.setattr(sanitize, "subprocess", SimpleNamespace(
        run=run, TimeoutExpired=subprocess.TimeoutExpired))
    return found


@pytest.mark.parametrize("tool,name,said,code", [
    ("racecheck", "attention_forward_06", THEIRS, 0),
    ("synccheck", "attention_forward_06", BARRIER, 0),
    ("memcheck", "attention_forward_06", BARRIER, 1),   # we tell the library its sizes
    ("initcheck", "attention_forward_06", BARRIER, 1),
    ("racecheck", "attention_forward_06", RACE, 1),
    ("racecheck", "gelu_forward_01", THEIRS, 1),        # calls no library
    ("racecheck", "gelu_forward_01", RACE, 1)])
def test_what_is_told_apart(tools, capsys, tool, name, said, code):
    tools.says[tool, name] = said
    assert sanitize.main() == code
    printed = capsys.readouterr().out
    assert f"{name} {tool}:" in printed
    assert f"2 versions in bfloat16, 4 tools: {code} faults; {1 - code} reports" in printed


def test_how_the_tools_are_asked(tools):
    """Outputs are filled beforehand under initcheck alone; errors of the driver's functions are
    reported but where a library makes them."""
    assert sanitize.main() == 0
    for command in tools.asked:
        tool, ours = command[2], "gelu_forward_01" in command
        assert ("--written" in command) == (tool == "initcheck")
        assert ("--report-api-errors" in command) == (tool == "memcheck" and not ours)
    assert len(tools.asked) == 8


def test_without_the_tools(monkeypatch):
    monkeypatch.setattr("sys.argv", ["", "--kernel", "gelu_forward_01"])
    monkeypatch.setattr(sanitize.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="found no compute-sanitizer"):
        sanitize.main()
