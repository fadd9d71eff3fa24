"""What compute-sanitizer says, read: whose kernel a report is about. The tools need a GPU."""

import pytest

from checks import sanitize

OURS = """========= Uninitialized __global__ memory read of size 16 bytes
=========     at __ldcs(const int4 *)+0xbc0 in sm_32_intrinsics.hpp:255
=========     by thread (0,0,0) in block (0,0,0)"""
RACE = """========= Error: Race reported between Write access at gelu_forward+0x5c in forward.cu:12
=========     and Read access at gelu_forward+0x1470 in forward.cu:14 [168 hazards]"""
THEIRS = """========= Error: Race reported between Write access at flash_bprop_kernel0_0+0x50c0
=========     and Read access at flash_bprop_kernel0_0+0x1470 [168 hazards]"""
BARRIER = """========= Barrier error detected. Divergent thread(s) in block.
=========     at flash_fprop_kernel0_0+0x3f40
=========     by thread (32,0,0) in block (0,0,0)"""
MORE = "========= ERROR SUMMARY: 897 errors were not printed. Use --print-limit option to adjust"


@pytest.mark.parametrize("said,kernels", [
    (OURS, []), (RACE, []), (THEIRS, ["flash_bprop_kernel0_0"]),
    (f"{THEIRS}\n{BARRIER}", ["flash_bprop_kernel0_0", "flash_fprop_kernel0_0"]),
    (f"{THEIRS}\n{OURS}", []), (f"{RACE}\n{BARRIER}", []), (f"{THEIRS}\n{MORE}", []), ("", [])])
def test_whose_kernel_a_report_is_about(said, kernels):
    """A library's only where every report is about one of its kernels, and all were printed."""
    assert sanitize.theirs(said) == kernels


def test_what_runs_here_is_said(monkeypatch, capsys):
    """Without the tools: words. With tools that find something in a kernel of ours: exit code 1."""
    monkeypatch.setattr("sys.argv", ["", "--kernel", "gelu_forward_01,attention_forward_06"])
    monkeypatch.setattr(sanitize.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="found no compute-sanitizer"):
        sanitize.main()
    monkeypatch.setattr(sanitize.shutil, "which", lambda name: name)
    for said, code in ((THEIRS, 0), (RACE, 1)):
        def watch(tool, names, precision, seconds, said=said):
            whole = names == ["gelu_forward_01"] or tool != "racecheck"
            return {"clean": whole, "code": sanitize.FAULT, "theirs": sanitize.theirs(said),
                    "said": said.splitlines(), "tail": []}
        monkeypatch.setattr(sanitize, "watch", watch)
        assert sanitize.main() == code
        printed = capsys.readouterr().out
        assert "2 versions in bfloat16, 4 tools: " + ("1 faults; 0" if code else "0 faults; 1") in (
            printed)
        assert "attention_forward_06 racecheck:" in printed
