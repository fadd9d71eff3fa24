"""Every kernel is proved: the versions come from the directory, the checks from the contract."""

import pytest

from checks import report, select


def test_kernel(kernel, kernels, worker, request):
    """One version, all its launch configurations, in a process of its own."""
    path = select.paths(kernels.device.language)[kernel]
    job = {"path": str(path), "device": kernels.device.name, "seed": kernels.seed}
    if request.config.getoption("--case"):
        job["case"] = request.config.getoption("--case")
    proof = worker.prove(job)
    kernels.proofs[kernel] = proof
    if proof["verdict"] != "proved":
        pytest.fail(report.faults(kernel, kernels.device.name, proof), pytrace=False)
    assert "case" in job or all(proof["checks"][name]["examples"] for name in ("gate", "poison"))
