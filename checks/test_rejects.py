"""Wrong kernels are refused for their reason; a right and an empty one show that this counts."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from checks import refusals, select
from checks.worker import Worker
from ported import device as devices
from ported import source
from ported.device import DeviceError

REJECTS = refusals.read_all()
FIRST = [(name, language) for language in ("c", "cu") for name in select.paths(language)
         if name.endswith("_01")]


def test_there_are_enough():
    assert sum(reject.device == "cpu" for reject in REJECTS) >= 40
    cuda = [reject for reject in REJECTS if reject.device == "emulated"]
    assert len(cuda) >= 30
    assert sum(reject.check == "sanitizers" for reject in cuda) >= 8


@pytest.fixture(scope="module")
def submit():
    """Takes work for a worker, of which there is one for each core; gives what is to come."""
    own, workers = threading.local(), []

    def prepare() -> None:
        own.worker = Worker()
        workers.append(own.worker)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), initializer=prepare) as pool:
        yield lambda work, *given: pool.submit(lambda: work(own.worker, *given))
        pool.shutdown(cancel_futures=True)
    for worker in workers:
        worker.close()


def asked(request, test) -> list[dict]:
    """The parameters with which `test` is to run in this session."""
    return [item.callspec.params for item in request.session.items
            if getattr(item, "function", None) is test]


@pytest.fixture(scope="module")
def judged(request, submit):
    """Of each reject that a test here asks for, its proof to come."""
    return {given["reject"].name: submit(refusals.judge, given["reject"])
            for given in asked(request, test_refused_for_its_reason)}


@pytest.fixture(scope="module")
def emptied(request, submit, tmp_path_factory):
    """Of each first version that a test here asks for, the proof to come of one that does
    nothing."""
    found = {}
    for given in asked(request, test_a_kernel_that_does_nothing_is_refused):
        name, language = given["name"], given["language"]
        found[name, language] = submit(refusals.refuse_empty, select.read(name, language)[0],
                                       tmp_path_factory.mktemp(f"{name}-{language}"))
    return found


@pytest.mark.parametrize("reject", REJECTS, ids=lambda reject: reject.name)
def test_refused_for_its_reason(reject, judged):
    proof = judged[reject.name].result()
    found = refusals.verdict(reject, proof)
    shown = "; ".join(f"{fault['check']}: {fault['message']}" for fault in proof["faults"][:3])
    assert found == "refused", (f"{reject.name}: found {found} (by {', '.join(proof['refused'])}), "
                                f"expected {reject.check}: {reject.reason}\n{shown}")


@pytest.mark.parametrize("reject", refusals.read_all(gpu=True), ids=lambda reject: reject.name)
def test_a_librarys_calls_are_refused_where_there_is_a_gpu(reject, worker):
    try:
        devices.open("cuda")
    except DeviceError as error:
        pytest.skip(f"{reject.name}: {str(error).splitlines()[0]}")
    proof = refusals.judge(worker, reject)
    assert refusals.verdict(reject, proof) == "refused", proof["faults"]


@pytest.mark.parametrize("name,language", FIRST)
def test_a_kernel_that_does_nothing_is_refused(name, language, emptied):
    proof = emptied[name, language].result()
    assert proof["verdict"] == "refused", proof


def planted(tmp_path, text: str) -> refusals.Reject:
    path = tmp_path / "layernorm" / "forward_planted.c"
    path.parent.mkdir()
    path.write_text(f"//@ reject gate: planted\n{text}")
    return refusals.read(path)


def test_a_right_kernel_among_the_wrong_is_accepted(worker, tmp_path):
    """The control: were it refused, refusals would mean nothing."""
    version, _ = select.read("layernorm_forward_01")
    reject = planted(tmp_path, version.text)
    assert refusals.verdict(reject, refusals.judge(worker, reject)) == "accepted"


@pytest.mark.parametrize("what,body,verdict", [
    ("crashes", "*(volatile int*)0 = 1;", "crashed"),
    ("never ends", "for (volatile int i = 0; i < 1;) {\n}", "timed-out"),
    ("does not compile", "no such thing;", "error"),
])
def test_what_cannot_be_judged_is_said(what, body, verdict, worker, tmp_path, monkeypatch):
    monkeypatch.setattr(refusals, "TIMEOUT", 8.0)
    version, _ = select.read("layernorm_forward_01")
    head, _, tail = version.text.partition("float eps) {")
    reject = planted(tmp_path, f"{head}float eps) {{ {body}{tail}")
    proof = refusals.judge(worker, reject)
    assert refusals.verdict(reject, proof) == verdict
    assert refusals.judge(worker, REJECTS[0])["verdict"] == "refused", "the next one is judged"


def test_a_reject_line_that_names_no_check(tmp_path):
    path = tmp_path / "layernorm" / "forward_planted.c"
    path.parent.mkdir()
    path.write_text(select.read("layernorm_forward_01")[0].text + "//@ reject luck: none\n")
    with pytest.raises(ValueError, match="expected a line `//@ reject CHECK: reason`"):
        refusals.read(path)
    assert source.read(path, "layernorm", "forward").reject == "luck: none"
