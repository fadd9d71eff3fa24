"""Files from outside the tree: judged, reported, refused with a replay, and told what they lack."""

import html.parser
import json
import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from checks import (
    bench_variants,
    explained,
    more_checks,
    verify,
    verify_file,
    verify_page,
    verify_text,
    verify_timing,
    verify_verdict,
)
from checks.cases import FAMILIES
from checks.prove import CHECKS, CUDA_CHECKS
from checks.test_bench import Timed as GpuClock
from checks.trial import Ledger
from ported import bench, binding, evidence, source
from ported import contract as contracts
from ported import device as devices
from ported.contract import ROOT

SIGNATURE = """void layernorm_forward(float* out, float* mean, float* rstd, const float* inp,
    const float* weight, const float* bias, int N, int C, float eps) {
"""
RIGHT = "#include <math.h>\n" + SIGNATURE + """
    for (int n = 0; n < N; n++) {
        const float* x = inp + (long)n * C;
        float sum = 0, squares = 0;
        for (int c = 0; c < C; c++) sum += x[c];
        float m = sum / C;
        for (int c = 0; c < C; c++) squares += (x[c] - m) * (x[c] - m);
        float r = 1.0f / sqrtf(squares / C + eps);
        for (int c = 0; c < C; c++) out[(long)n * C + c] = (x[c] - m) * r * weight[c] + bias[c];
        mean[n] = m, rstd[n] = r;
    }
}
"""
CUDA = """extern "C" __global__ void gelu_forward(float* out, const float* inp, int N, int C) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= N * C) return;
    float x = inp[i];
    out[i] = 0.5f * x * (1.0f + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x)));
}
"""
NAMES = list(contracts.read_all())


def write(tmp_path, text: str, name: str = "my kernel.c"):
    path = tmp_path / name
    path.write_text(text)
    return path


def judge(path, *more: str, op: str = "") -> int:
    return verify.main(["--file", str(path), "--op", op, *more])


def refused_text(tmp_path, capsys, text: str, *more: str, name: str = "my.c", op: str = "") -> str:
    """What an input error says; nothing is judged."""
    assert judge(write(tmp_path, text, name), *more, op=op) == verify.NOT_JUDGED
    shown = capsys.readouterr()
    assert not shown.out and shown.err.startswith("error: ")
    return shown.err


class Loads(html.parser.HTMLParser):
    """What a page would load, and whether its tags close in order."""

    VOID = ("meta", "br", "rect", "line", "circle", "path")

    def __init__(self):
        super().__init__()
        self.loads, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.loads += [(tag, v) for k, v in attrs if k in ("src", "href", "srcset", "data")]
        self.loads += [(tag, "") for _ in range(tag in ("script", "link", "iframe", "object"))]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def self_contained(text: str) -> None:
    parser = Loads()
    parser.feed(text)
    assert not parser.open and not parser.loads
    assert not re.search(r"url\(|@import|https?://", text)


def test_a_right_file_is_proved_and_timed(tmp_path, capsys):
    path, page, found = write(tmp_path, RIGHT), tmp_path / "report.html", tmp_path / "verdict.json"
    assert judge(path, "--html", str(page), "--json", str(found)) == verify.PROVED
    text = capsys.readouterr().out
    assert text.startswith("PROVED: my kernel.c computes layernorm_forward")
    assert "NOT CHECKED" in text and "worst case: " in text
    kept = [p for folder in evidence.folders("cpu-x86_64") for p in folder.glob("*_00.json")]
    assert not kept, "a stranger's proof is no evidence of the tree"
    verdict = json.loads(found.read_text())
    assert verdict["schema"] == verify_verdict.SCHEMA and verdict["verdict"] == "proved"
    assert verify_text.text(verdict) + "\n" == text, "the JSON says all that the text says"
    assert [timing["digest"] for timing in verdict["timings"]] == ["equal"]
    assert "PyTorch" in next(iter(verdict["timings"][0]["peers"])) and "of the roofline" in text
    self_contained(page.read_text())
    for check in verdict["proofs"][0]["checks"]:
        assert check["name"] in page.read_text() and check["says"]
    described = set(re.findall(r"\w+", verify_verdict.__doc__))
    places = [verdict[k] for k in ("file", "operation", "asked", "machine")]
    lists = [verdict["proofs"], verdict["timings"], verdict["not_checked"],
             verdict["proofs"][0]["checks"], verdict["proofs"][0]["errors"]]
    keys = {key for place in [verdict, *places, *(some[0] for some in lists)] for key in place}
    assert not keys - described, "the module's docstring says what every key is"


def test_a_wrong_file_is_refused_and_its_replay_refuses_again(tmp_path, capsys):
    wrong = RIGHT.replace("squares / C", "squares / (C > 4 ? C - 1 : C)")
    path, found = write(tmp_path, wrong), tmp_path / "verdict.json"
    assert judge(path, "--json", str(found)) == verify.REFUSED
    text = capsys.readouterr().out
    verdict = json.loads(found.read_text())
    first = verdict["proofs"][0]["refusals"][0]
    assert text.startswith("REFUSED: my kernel.c does not compute layernorm_forward")
    assert first["checks"][0] == "gate" and "C=5:" in first["case"] and not first["follows"]
    assert first["replay"] in text and "only what is proved is timed" in text
    assert "memory around the buffers" not in text, "what follows from wrong results is counted"
    picture = verdict["proofs"][0]["picture"]
    assert picture["wrong_in_all"] == 5 and len(picture["found"][0]) == 5
    self_contained(verify_page.page(verdict))
    dry = subprocess.run([*shlex.split(first["replay"]), "-n", "-o", ".venv/ready"], cwd=ROOT,
                         env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
                         capture_output=True, text=True, check=True).stdout
    words = shlex.split(dry.strip().splitlines()[-1])
    assert words[0].endswith("python") and words[1:3] == ["-m", "checks.verify"]
    assert verify.main(words[3:]) == verify.REFUSED
    again = capsys.readouterr().out
    assert first["found"][:40] in " ".join(again.split()), again


def test_a_cuda_file_without_directives_takes_them_from_the_command_line(tmp_path, capsys):
    path = write(tmp_path, CUDA, "my.cu")
    flags = ("--block", "64", "--grid", "ceil_div(N * C, block)", "--device", "emulated")
    assert judge(path, *flags, "--json", "-") == verify.PROVED
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["file"]["directives"] == ["//@ block 64", "//@ grid ceil_div(N * C, block)"]
    assert [p["precision"] for p in verdict["proofs"]] == ["float32"]
    skipped = {one["what"] for one in verdict["not_checked"]}
    assert {"time", "real hardware", "the precision bfloat16"} <= skipped
    words = shlex.split(verdict["command"])
    assert "--directive 'grid ceil_div(N * C, block)'" in words[-1]


@pytest.mark.parametrize("planted,said,timeout", [
    ("if (C == 13) *(volatile int*)8 = 1;", "died of SIGSEGV", 300),
    ("if (C == 13) { puts(\"bye\"); exit(0); }", "ended with code 0", 300),
    ("while (C == 13) __asm__ volatile(\"\");", "no answer after", 10),
])
def test_a_crash_an_exit_and_a_hang_are_refusals(planted, said, timeout, tmp_path, capsys):
    text = "#include <stdio.h>\n#include <stdlib.h>\n" + RIGHT.replace("mean[n] = m,",
                                                                     f"{planted} mean[n] = m,")
    assert judge(write(tmp_path, text), "--timeout", str(timeout),
                 "--no-bench") == verify.REFUSED
    shown = capsys.readouterr().out
    assert shown.startswith("REFUSED: ") and said in shown and "bye" not in shown


def test_what_does_not_compile_is_not_judged(tmp_path, capsys):
    assert judge(write(tmp_path, RIGHT.replace("sum = 0", "sum = nothing"))) == verify.NOT_JUDGED
    shown = capsys.readouterr().out
    assert shown.startswith("ERROR: ") and "nothing" in shown and "the command: " in shown


@pytest.mark.parametrize("text,name,more,op,expected", [
    (RIGHT, "my.c", (), "layernrm_forward", "near it: layernorm_forward"),
    (RIGHT, "my.c", (), "layernorm", "near it: layernorm_backward, layernorm_forward"),
    (RIGHT.replace("layernorm_forward", "mine"), "my.c", (), "", "found the functions mine; say"),
    (RIGHT, "my.rs", (), "", "expected .c (C, for the processor); .cu"),
    (RIGHT, "my.c", (), "gelu_forward", "void gelu_forward(float* out, const float* inp"),
    (RIGHT.replace("float* rstd", "float* r"), "my.c", (), "", SIGNATURE.partition(",")[0]),
    (RIGHT.replace("const float* inp", "float* inp"), "my.c", (), "", "found no const"),
    (CUDA, "my.cu", (), "", "found no `//@ block`, no `//@ grid`"),
    (CUDA, "my.cu", ("--block", "64"), "", "paste lines like these"),
    (CUDA.replace('extern "C" ', ""), "my.cu", ("--block", "64", "--grid", "N*C"), "",
     'extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C)'),
    (CUDA, "my.cu", ("--directive", "blck 64"), "", "found directive 'blck'; expected one of"),
    (CUDA, "my.cu", ("--device", "cpu", "--block", "1", "--grid", "N*C"), "", "emulated or cuda"),
    (RIGHT, "my.c", ("--dtype", "bfloat16"), "", "allow float32"),
    (RIGHT, "my.c", ("--shape", "N=3"), "", "expected N=64,C=64"),
    (RIGHT, "my.c", ("--case", "N=3"), "", "expected 'N=3,C=3:seed=0:family=randn'"),
    (RIGHT, "my.c", ("--html", "/no/such/folder/x.html"), "", "no such folder"),
])
def test_errors_say_what_to_change(text, name, more, op, expected, tmp_path, capsys):
    assert expected in refused_text(tmp_path, capsys, text, *more, name=name, op=op)


def test_no_such_file(tmp_path, capsys):
    write(tmp_path, RIGHT, "layernorm.c")
    assert judge(tmp_path / "layernrm.c") == verify.NOT_JUDGED
    assert f"near it: {tmp_path / 'layernorm.c'}" in capsys.readouterr().err


def test_no_file_and_no_operation_say_what_there_is(capsys):
    assert verify.main(["--op", "attention_backward"]) == 0
    shown = capsys.readouterr().out
    assert "float* dqkv, const float* dout" in shown and "def backward(" in shown
    assert verify.main([]) == verify.NOT_JUDGED and "layernorm_forward" in capsys.readouterr().out
    assert verify.main(["--kernel", "a", "--file", "b"]) == verify.NOT_JUDGED


def test_an_error_is_json_too(tmp_path, capsys):
    assert judge(tmp_path / "none.c", "--json", "-") == verify.NOT_JUDGED
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "error" and "no file" in found["message"] and found["schema"] == 1


@pytest.mark.parametrize("name,text,compiler", [("my.c", RIGHT, "CC"), ("my.cu", CUDA, "CXX")])
def test_without_a_compiler(name, text, compiler, tmp_path):
    path = write(tmp_path, text, name)
    command = [sys.executable, "-m", "checks.verify", "--file", str(path), "--block", "64",
               "--grid", "N*C", "--device", "cpu" if compiler == "CC" else "emulated"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                            env={**os.environ, compiler: "no-such-compiler"})
    assert result.returncode == verify.NOT_JUDGED and "no-such-compiler" in result.stderr


def test_an_interrupt_ends_it_cleanly(tmp_path):
    path = write(tmp_path, RIGHT.replace("mean[n] = m,", "for (;;) mean[n] = m,"))
    command = [sys.executable, "-m", "checks.verify", "--file", str(path)]
    # A run in a shell's background hands on that interrupts are ignored.
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, start_new_session=True, preexec_fn=lambda: signal.signal(
                              signal.SIGINT, signal.SIG_DFL)) as process:
        assert "judging" in process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == verify.INTERRUPTED and not out
    assert err.strip().endswith("interrupted: nothing was judged"), err


def answered(path, device: str, **axes) -> tuple[list, Ledger]:
    """What a timing on the cpu, or on the emulated device with a GPU's clock, finds."""
    given, ledger = verify_file.read(path, directives=["block 64", "grid ceil_div(N * C, block)"]
                                     if path.suffix == ".cu" else []), Ledger()
    machine = devices.open("cpu", threads=1) if device == "cpu" else GpuClock("float32")
    measure = verify_timing.on_cpu if device == "cpu" else verify_timing.on_cuda
    return measure(given.version, given.contract, axes, machine, bench.Ceilings(1e30, 1e30),
                   ledger), ledger


def test_a_timing_on_a_gpu_is_judged_there_first(tmp_path, monkeypatch):
    for place, name, value in ((bench_variants, "WHERE", "cpu"), (bench_variants, "ROUNDS", 2),
                               (bench_variants.cuda_code, "cubin", lambda *arguments: None),
                               (bench_variants.Shape, "peers", lambda shape: [])):
        monkeypatch.setattr(place, name, value)
    found, ledger = answered(write(tmp_path, CUDA, "my.cu"), "cuda", N=3, C=40)
    assert found[0]["digest"] == "equal" and found[0]["seconds"] > 0 and not ledger.faults
    wrong = write(tmp_path, CUDA.replace("N * C)", "N * C - 1)"), "wrong.cu")
    found, ledger = answered(wrong, "cuda", N=3, C=40)
    assert not found and ledger.refused["gate"]


def test_what_is_right_only_a_few_times_is_caught_after_its_timing(tmp_path):
    text = RIGHT.replace("mean[n] = m", "static int calls; mean[n] = ++calls > 400 ? 0 : m")
    found, ledger = answered(write(tmp_path, text), "cpu", N=8, C=16)
    assert [timing["digest"] for timing in found] == ["different"] and not ledger.faults
    assert "differs from that of a call on other memory" in found[0]["fault"]


@pytest.mark.parametrize("suffix", [".c", ".cu"])
@pytest.mark.parametrize("name", NAMES)
def test_the_signature_that_is_shown_fits(name, suffix, tmp_path):
    contract = contracts.of(name)
    path = write(tmp_path, verify_file.signature(contract, suffix), f"mine{suffix}")
    version = source.read(path, contract.operation, contract.direction)
    binding.check(version, contract)
    assert max(map(len, path.read_text().splitlines())) <= 100
    assert verify_file.signature(contract, suffix) in verify_file.described(contract)


def test_every_check_and_family_is_explained():
    assert set(explained.CHECKS) == {*CHECKS, *CUDA_CHECKS, *more_checks.BY_NAME}
    assert set(explained.FAMILIES) == set(FAMILIES)


def test_a_page_escapes_what_it_shows_and_bears_what_is_not_finite():
    worst = {"output": "out", "family": "randn", "worst": "inf", "case": "<N=1>", "replay": "",
             "check": "gate", "parameters": {}}
    refusal = {"checks": ["gate"], "output": "out", "found": "<b>NaN</b>", "ratio": "inf",
               "case": "<N=1>", "parameters": {"block": 64}, "replay": "<r>", "follows": False}
    proof = {"device": "cpu", "precision": "float32", "verdict": "refused", "reason": "",
             "checks": [], "errors": [worst, {**worst, "worst": 0.0, "output": "mean"}],
             "refusals": [refusal], "refused": {"gate": 1}, "seconds": 1.0, "configurations": 1,
             "picture": {"output": "out", "shape": [1], "size": [1, 1], "at": [0, 0], "case": "",
                         "wrong_in_all": 1, "found": [["nan"]], "expected": [[1.0]],
                         "bound": [[1e-7]], "wrong": [[True]], "check": "gate"}}
    timing = {"device": "cpu", "precision": "float32", "axes": {"N": 1}, "parameters": {},
              "seconds": 1e-6, "samples": [1e-6, 9e-6], "peers": {}, "verdict": None, "share": 2.0,
              "roof": "cache", "bytes": 8, "operations": None, "digest": "equal", "fault": "",
              "ceilings": {"bandwidth": 1e9, "arithmetic": 1e9}}
    verdict = {"schema": 1, "verdict": "refused", "message": "<m>", "command": "<c>",
               "file": {"name": "<script>", "path": "", "lines": 1, "sha256": "", "directives": []},
               "operation": {"name": "x", "says": "<i>"}, "proofs": [proof], "timings": [timing],
               "machine": {"processor": "", "cores": 1, "gpu": None, "system": "", "python": "",
                           "torch": "", "numpy": "", "revision": "", "compilers": {}},
               "asked": {"tier": "fast", "seed": 0, "case": None},
               "not_checked": [{"what": "<w>", "why": "", "where": ""}]}
    page = verify_page.page(verdict)
    self_contained(page)
    for words in ("<script>", "<m>", "<c>", "<w>", "<r>", "<N=1>", "<b>NaN"):
        assert words not in page
    assert "something else ran" in verify_text.text(verdict)
