"""Every kernel is proved: the versions come from the directory, the checks from the contract."""

import pytest

from checks import report, select
from conftest import PROOF


def test_kernel(kernel, kernels, worker, request):
    """One version in one precision, all its launch configurations, in a process of its own."""
    path = select.paths(kernel.language)[kernel.version]
    job = {"path": str(path), "device": kernel.device, "dtype": kernel.dtype, "seed": kernels.seed}
    if request.config.getoption("--case"):
        job["case"] = request.config.getoption("--case")
    proof = worker.prove(job, 600.0)
    request.node.user_properties.append((PROOF, (str(kernel), kernel.device, proof)))
    if proof["verdict"] == "not applicable":
        pytest.skip(proof["reason"])
    if proof["verdict"] != "proved":
        pytest.fail(report.faults(kernel.version, kernel.device, proof), pytrace=False)
    assert "case" in job or all(proof["checks"][name]["examples"] for name in ("gate", "poison"))
