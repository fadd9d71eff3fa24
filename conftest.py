"""pytest as the front end of the prover: which kernels are proved, and what the end says.

    pytest checks --kernel layernorm_forward_02      one version (or a glob) and nothing else
    pytest                                           all tests; kernels whose committed evidence
                                                     does not hold, and a sample of the others
    pytest --all                                     all tests and all kernels
"""

import os

import pytest

# Two thread pools, PyTorch's and the kernels', share the cores here: who waits must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

KERNELS = "test_kernels.py"


def pytest_addoption(parser):
    group = parser.getgroup("kernels")
    group.addoption("--kernel", help="prove this version (name or glob, several parted by commas)")
    group.addoption("--device", default="cpu", help="where kernels run")
    group.addoption("--case", help="one case, as a failure prints it")
    group.addoption("--all", action="store_true", help="prove every version")
    group.addoption("--seed", type=int, default=0, help="of cases, and of the sample")
    group.addoption("--sample", type=int, default=4, help="so many of the proved ones, anew")


class Kernels:
    """What this run of pytest proves: chosen once, counted as it runs."""

    def __init__(self, config):
        from checks import select
        from ported import device as devices

        self.proofs: dict[str, dict] = {}
        self.reused = 0
        self.reasons: list[str] = []
        pattern, self.seed = config.getoption("--kernel"), config.getoption("--seed")
        try:
            self.device = devices.open(config.getoption("--device"))
            if pattern or config.getoption("--all"):
                self.names = select.matching(pattern or "*", self.device.language)
                return
        except (select.NoSuchKernel, devices.DeviceError) as error:
            raise pytest.UsageError(f"--kernel/--device: {error}") from None
        count = config.getoption("--sample")
        changed, sample, states = select.changed(self.device, self.seed, count)
        self.names = changed + sample
        self.reused = len(states) - len(self.names)
        counts = {state: sum(s == state for s in states.values()) for state in set(states.values())}
        self.reasons.append("committed evidence: " + ", ".join(
            f"{count} {state}" for state, count in sorted(counts.items())))


def pytest_configure(config):
    if config.getoption("--case") and not config.getoption("--kernel"):
        raise pytest.UsageError("--case: found no --kernel; a case belongs to one version")
    if config.getoption("--kernel"):
        kernels_of(config)


def kernels_of(config) -> Kernels:
    if not hasattr(config, "_kernels"):
        config._kernels = Kernels(config)
    return config._kernels


def pytest_ignore_collect(collection_path, config):
    """With --kernel nothing but that kernel's proof is collected."""
    if config.getoption("--kernel") and collection_path.suffix == ".py":
        return collection_path.name != KERNELS
    return None


def pytest_generate_tests(metafunc):
    if "kernel" in metafunc.fixturenames:
        metafunc.parametrize("kernel", kernels_of(metafunc.config).names)


@pytest.fixture(scope="session")
def worker():
    """A process in which kernels are judged."""
    from checks.worker import Worker

    with Worker() as worker:
        yield worker


@pytest.fixture
def kernels(request) -> Kernels:
    return kernels_of(request.config)


def pytest_sessionfinish(session, exitstatus):
    """Nothing checked is a failure."""
    if session.config.getoption("--kernel") and not session.config.option.collectonly:
        if not kernels_of(session.config).proofs and exitstatus == 0:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


def pytest_terminal_summary(terminalreporter, config):
    kernels = getattr(config, "_kernels", None)
    if kernels is None:
        return
    from checks import report

    terminalreporter.section("kernels")
    for name, proof in kernels.proofs.items():
        terminalreporter.line(report.line(name, proof))
    for reason in [*report.not_run(kernels.proofs), *kernels.reasons]:
        terminalreporter.line(f"did not run: {reason}" if "evidence" not in reason else reason)
    terminalreporter.line(f"reused {kernels.reused} proofs, ran {len(kernels.proofs)}")
    if not kernels.proofs:
        terminalreporter.line("no kernel was proved", red=True)
