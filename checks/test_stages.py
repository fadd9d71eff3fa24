"""A start's stages: what is nested is not counted twice, what runs beside is told apart."""

import threading
import time

import pytest

from checks.fake_driver.record import recorded, run
from ported import stages
from ported.stages import stage


@pytest.fixture
def clock(monkeypatch):
    """Stages that begin empty, on a clock that only `clock(seconds)` moves."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(stages, "_main", {})
    monkeypatch.setattr(stages, "_beside", {})

    def move(seconds):
        now[0] += seconds
    return move


def test_inner_stages_are_taken_off_the_outer_ones(clock):
    with stage("outer"):
        clock(1)
        with stage("inner"):
            clock(2)
            with stage("innermost"):
                clock(4)
        with stage("inner"):
            clock(8)
    with stage("outer"):
        clock(16)
    assert stages.taken() == {"main": {"innermost": 4, "inner": 10, "outer": 17}, "beside": {}}


def test_a_stage_that_fails_is_counted(clock):
    with pytest.raises(KeyError), stage("outer"):
        with stage("inner"):
            clock(3)
            raise KeyError
    assert stages.taken()["main"] == {"inner": 3, "outer": 0}


def test_other_threads_stand_apart(clock):
    def work():
        with stage("driver"):
            clock(5)
    with stage("waiting"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert stages.taken() == {"main": {"waiting": 5}, "beside": {"driver": 5}}


def test_the_line_adds_up(clock):
    found = {"main": {"imports": 0.25, "data": 0.004, "plan": 0.5}, "beside": {"driver": 0.31}}
    assert stages.told(found, 1.0) == "imports 0.25, plan 0.50, rest 0.25; beside: driver 0.31"


def test_a_process_knows_when_it_began():
    before = stages.since_start()
    assert 0 < before < 3600 * 24 and stages.since_start() >= before


AHEAD = """
import json, threading
from ported import stages
from ported.device import cuda_ahead
def threads():
    return [t for t in threading.enumerate() if t is not threading.main_thread()]
"""


@recorded
def test_the_context_comes_up_ahead_and_is_given_back(tmp_path):
    code, out, errors, lines = run(AHEAD + """
ahead = cuda_ahead.Ahead("bfloat16")
device = devices.open("cuda")
ahead.settle()
mark("settled")
print(sorted(stages.taken()["beside"]))
""", tmp_path)
    assert code == 0 and not errors, errors
    before = lines[:lines.index("-- settled")]
    assert sum(line == "cuDevicePrimaryCtxRetain" for line in before) == 2
    assert sum(line.startswith("cuDevicePrimaryCtxRelease") for line in before) == 1
    assert "CUDA driver and context" in out


@recorded
@pytest.mark.parametrize("settings", ["cuInit=100", "cuDevicePrimaryCtxRetain=2"])
def test_what_fails_ahead_is_left_to_fail_there(settings, tmp_path):
    code, out, errors, lines = run(AHEAD + """
ahead = cuda_ahead.Ahead("bfloat16")
try:
    devices.open("cuda")
except devices.DeviceError as error:
    print(error)
ahead.settle()
""", tmp_path, settings)
    assert code == 0 and not errors, errors
    assert "cuda:" in out
    assert not any(line.startswith("cuDevicePrimaryCtxRelease") for line in lines)


@recorded
def test_libraries_are_warmed_with_the_context(tmp_path):
    """A stand-in library, which says what it was asked."""
    (tmp_path / "lib.c").write_text("""
#include <stdio.h>
#include <stdlib.h>
static void say(const char* text) {
    FILE* file = fopen(getenv("SAID"), "a");
    fprintf(file, "%s\\n", text);
    fclose(file);
}
int cublasLtCreate(void** handle) { *handle = (void*)7; say("create"); return 0; }
int cublasLtDestroy(void* handle) { say(handle == (void*)7 ? "destroy" : "wrong"); return 0; }
""")
    code, out, errors, lines = run(AHEAD + """
import subprocess
from ported.device.cpu import compiler
built = folder / "libcublasLt.so.13"
subprocess.run([compiler()[0], "-shared", "-fPIC", folder / "lib.c", "-o", built], check=True)
os.environ["SAID"] = str(folder / "said")
os.environ["LD_LIBRARY_PATH"] = str(folder)
ahead = cuda_ahead.Ahead("float32")
ahead.settle()
for thread in threads():
    thread.join()
""", tmp_path)
    assert code == 0 and not errors, errors
    assert (tmp_path / "said").read_text().split() == ["create", "destroy"]


@recorded
@pytest.mark.parametrize("before, found", [
    ("", "there"), ('cuda_ahead.Ahead("bfloat16").settle()', "ModuleNotFoundError")])
def test_what_no_plan_takes_is_not_imported(before, found, tmp_path):
    """A stand-in for cuDNN's Python side, which asks for its kernels and does without them."""
    (tmp_path / "cudnn" / "sdpa").mkdir(parents=True)
    (tmp_path / "cudnn" / "__init__.py").write_text("""
try:
    import cudnn.sdpa.forward
except ImportError as error:
    print(type(error).__name__)
else:
    print("there")
""")
    for name in ("__init__", "forward"):
        (tmp_path / "cudnn" / "sdpa" / f"{name}.py").write_text("")
    code, out, errors, _ = run(AHEAD + f"""
import sys
sys.path.insert(0, str(folder))
{before}
import cudnn
""", tmp_path)
    assert (code, out.split(), errors) == (0, [found], "")
