"""Races, late threads, and what a kernel may not depend on: wrong ones are refused, right ones
that use what OpenMP has are not."""

import contextlib
import os
import re
import subprocess

import pytest

from checks import environment, late, tiers, watched
from checks.shapes import Shapes
from checks.trial import Ledger, Subject
from ported import contract as contracts
from ported import device as devices
from ported import source
from ported.device import cpu

CPU = devices.open("cpu", threads=2)
CHECKS = {"races": late.races, "late": late.late, "environment": environment.environment}
HEAD = """// Planted.
//@ dtype  all=float32
//@ scratch mine F32["threads"]
//@ claims deterministic
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

"""
SIGNATURE = """void residual_forward(float* out, float* mine, const float* inp1, const float* inp2,
                      int N, int C, int threads) {
    long size = (long)N * C;
"""
PLAIN = "for (long i = 0; i < size; i++) out[i] = inp1[i] + inp2[i];\n"
PARALLEL = "#pragma omp parallel for num_threads(threads)\n" + PLAIN


def ledger_of(folder, body: str, before: str = "", seen=tuple(CHECKS), names=None) -> Ledger:
    """What the checks say of a residual_forward with this body, at two shapes of the spine."""
    path = folder / "forward_01_planted.c"
    path.write_text(HEAD + before + SIGNATURE + body + "}\n")
    version = source.read(path, "residual", "forward")
    contract, ledger = contracts.of(version.contract_name), Ledger()
    shapes = Shapes(version, contract, CPU)
    spine = {n: s for n, s in shapes.spine().items() if n in (names or ("odd", "one", "over"))}
    shapes.spine = lambda more=False: spine
    subject = Subject(version, contract, CPU, {}, ledger, tier=tiers.of("deep", CPU))
    for name in seen:
        try:
            CHECKS[name](subject, shapes, 0)
        except late.Broken:
            break
    return ledger


# Everything of OpenMP that is wrapped, used as it should be.
RIGHT = {
    "a loop": PARALLEL,
    "no thread": PLAIN,
    "dynamic": PARALLEL.replace("threads)\n", "threads) schedule(dynamic, 3)\n"),
    "guided": PARALLEL.replace("threads)\n", "threads) schedule(guided)\n"),
    "run time": PARALLEL.replace("threads)\n", "threads) schedule(runtime)\n"),
    "unsigned": "#pragma omp parallel for num_threads(threads) schedule(dynamic)\n"
                + PLAIN.replace("long i = 0; i < size", "size_t i = 0; i < (size_t)size"),
    "a barrier": """#pragma omp parallel num_threads(threads)
    {
        #pragma omp for
        for (long i = 0; i < size; i++) out[i] = inp1[i];
        #pragma omp for schedule(dynamic)
        for (long i = 0; i < size; i++) out[size - 1 - i] += inp2[size - 1 - i];
    }
    """,
    "locks": """int done = 0, parts = 0;
    omp_lock_t lock;
    omp_init_lock(&lock);
    #pragma omp parallel num_threads(threads)
    {
        #pragma omp single
        memset(out, 0, size * sizeof(float));
        #pragma omp atomic
        done++;
        #pragma omp critical
        parts++;
        omp_set_lock(&lock);
        mine[0] = 1.0f;
        omp_unset_lock(&lock);
        #pragma omp sections
        {
            #pragma omp section
            memcpy(out, inp1, size / 2 * sizeof(float));
            #pragma omp section
            memcpy(out + size / 2, inp1 + size / 2, (size - size / 2) * sizeof(float));
        }
        #pragma omp for ordered
        for (long i = 0; i < size; i++) {
            #pragma omp ordered
            mine[0] += 1.0f;
            out[i] += inp2[i];
        }
    }
    omp_destroy_lock(&lock);
    """,
    "a reduction": "long sum = 0;\n#pragma omp parallel for num_threads(threads) reduction(+:sum)\n"
                   "for (long i = 0; i < size; i++) { out[i] = inp1[i] + inp2[i]; sum += i; }\n",
    "a heap": """#pragma omp parallel num_threads(threads)
    {
        float* row = calloc(C, sizeof(float));
        row = realloc(row, 2 * C * sizeof(float));
        #pragma omp for
        for (int n = 0; n < N; n++) {
            for (int c = 0; c < C; c++) row[c] = inp1[(long)n * C + c];
            for (int c = 0; c < C; c++) out[(long)n * C + c] = row[c] + inp2[(long)n * C + c];
        }
        free(row);
    }
    """,
}
BARRIER = RIGHT["a barrier"]
WRONG = {
    "no barrier": (BARRIER.replace("omp for\n", "omp for nowait\n"), "", {"races", "late"}),
    "scratch of one": (PARALLEL.replace("out[i] = ", "mine[0] = inp1[i], out[i] = "), "",
                       {"races"}),
    "nine threads": (PARALLEL.replace("out[i] = ", "mine[omp_get_thread_num() % 8] = inp1[i], "
                                      "out[i] = "), "", {"races"}),
    "at most 64": ("if (threads > 64) size--;\n" + PARALLEL, "", {"late"}),
    "not atomic": ("long at = 0;\n#pragma omp parallel num_threads(threads)\n"
                   "for (long i; (i = *(volatile long*)&at, at = i + 1, i) < size;) "
                   "out[i] = inp1[i] + inp2[i];\n", "", {"races"}),
    "two locks": ("#pragma omp parallel num_threads(threads)\n{\nif (omp_get_thread_num()) {\n"
                  "#pragma omp critical(a)\nmine[0]++;\n} else {\n#pragma omp critical(b)\n"
                  "mine[0]++;\n}\n}\n" + PLAIN, "", {"races"}),
    "after the return": (
        "to = out, a = inp1, b = inp2, n = size;\npthread_t t;\n"
        "pthread_create(&t, 0, work, 0);\npthread_detach(t);\n",
        "static float* to; static const float *a, *b; static long n;\nstatic void* work(void* x) "
        "{ for (long i = 0; i < n; i++) to[i] = a[i] + b[i]; return x; }\n", {"late"}),
    "its share": ("#pragma omp parallel num_threads(threads)\n"
                  "for (long i = omp_get_thread_num(); i < size; i += threads) "
                  "out[i] = inp1[i] + inp2[i];\n", "", {"environment"}),
    "the environment's threads": (
        PLAIN + "if (omp_get_max_threads() > 8) out[0] += 1;\n", "", {"environment"}),
    "a heap that is zero": (PLAIN + "float* x = malloc(64);\nout[0] += x[3] != 0;\nfree(x);\n", "",
                            {"environment"}),
    "never freed": (PLAIN + "float* x = malloc(40);\nmemcpy(&x, &x, 8);\nif (x) x[0] = 1;\n"
                    "mine[0] = (long)x;\n", "", {"environment"}),
    "a stack that is zero": (PLAIN + "out[0] += dirty();\n",
                             "__attribute__((noinline)) static int dirty(void) { volatile int x[9];"
                             " return x[4] != 0; }\n", {"environment"}),
    "files left open": (PLAIN + "(void)!dup(0);\n", "", {"environment"}),
    "a count of 16 bits": (PLAIN + "static unsigned short calls; if (!++calls) out[0] = 0;\n", "",
                           {"environment"}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_ones_are_not_accused(name, tmp_path):
    ledger = ledger_of(tmp_path, RIGHT[name])
    assert not ledger.refused, ledger.faults
    ran = {check: ledger.examples[check] for check in CHECKS}
    assert ran["late"] and ran["environment"] and bool(ran["races"]) == (name != "no thread"), (
        ran, ledger.not_run)


@pytest.fixture
def files_are_closed():
    """What a kernel leaves open does not stay with the tests."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    for number in set(os.listdir("/proc/self/fd")) - before:
        with contextlib.suppress(OSError):
            os.close(int(number))


@pytest.mark.usefixtures("files_are_closed")
@pytest.mark.parametrize("name", WRONG)
def test_wrong_ones_are_refused(name, tmp_path):
    body, before, checks = WRONG[name]
    for check in checks:
        assert check in ledger_of(tmp_path, body, before, [check]).refused, (
            f"{name}: not refused by {check}")


def test_what_orders_threads_in_unknown_ways_is_not_judged(tmp_path):
    """A flag that is waited for: no barrier, and no race."""
    body = """int ready = 0;
    #pragma omp parallel num_threads(threads)
    {
        if (omp_get_thread_num() == 0) {
            for (long i = 0; i < size; i++) out[i] = inp1[i] + inp2[i];
            __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
        }
        while (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) {
            usleep(10);
        }
        mine[omp_get_thread_num()] = out[0];
    }
    """
    ledger = ledger_of(tmp_path, body, seen=["races"])
    assert not ledger.refused and not ledger.examples["races"]
    assert ledger.not_run["races: threads ordered by other means than barriers and locks"]


def test_every_wrapped_name_is_known(tmp_path):
    """late.c and the list that the linker gets say the same."""
    built = tmp_path / "late.o"
    subprocess.run([cpu.compiler()[0], "-fopenmp", "-c", str(watched.HERE / "late.c"), "-o",
                    str(built)], check=True)
    names = subprocess.run(["nm", str(built)], capture_output=True, text=True,
                           check=True).stdout.split()
    found = {name.removeprefix("__wrap_") for name in names if name.startswith("__wrap_")}
    assert found == set(watched.WRAPPED)


def test_a_race_says_where_and_who(tmp_path):
    found = ledger_of(tmp_path, WRONG["scratch of one"][0], seen=["races"]).faults[0].message
    assert re.match(r"mine\[0\] is written by thread \d and written by thread \d of 2, with no "
                    r"barrier between; \d+ such accesses", found), found
