"""pytest as the front end of the prover: which kernels are proved, and what the end says.

    pytest checks --kernel layernorm_forward_02      one version (or a glob) and nothing else
    pytest checks --kernel gelu_forward_02 --device emulated --dtype bfloat16
    pytest                                           all tests; kernels whose committed evidence
                                                     does not hold, and a sample of the others, on
                                                     the cpu and on the emulated device
    pytest --all                                     all tests and all kernels
"""

import os
from collections import Counter
from typing import NamedTuple

import pytest

# Two thread pools, PyTorch's and the kernels', share the cores here: who waits must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

KERNELS = "test_kernels.py"
PROOF = "proof"  # the property of a test's report that holds one
EVERYWHERE = ("cpu", "emulated")  # what a run without --device proves on


def pytest_addoption(parser):
    group = parser.getgroup("kernels")
    group.addoption("--kernel", help="prove this version (name or glob, several parted by commas)")
    group.addoption("--device", help="where kernels run (cpu with --kernel, else cpu and emulated)")
    group.addoption("--dtype", help="one precision; otherwise each that a version's dtypes allow")
    group.addoption("--case", help="one case, as a failure prints it")
    group.addoption("--all", action="store_true", help="prove every version")
    group.addoption("--seed", type=int, default=0, help="of cases, and of the sample")
    group.addoption("--sample", type=int, default=3, help="so many of the proved ones, anew")


class Kernel(NamedTuple):
    """One proof of this run."""

    version: str
    device: str
    dtype: str
    language: str

    def __str__(self) -> str:
        return self.version if self.device == "cpu" else (
            f"{self.version} {self.device} {self.dtype}")


class Kernels:
    """What this run of pytest proves; each process of pytest-xdist chooses the same."""

    def __init__(self, config):
        from checks import select
        from ported import device as devices

        self.config, self.seed = config, config.getoption("--seed")
        self.kernels: list[Kernel] = []
        self.reused: Counter[str] = Counter()
        self.reasons: list[str] = []
        named = config.getoption("--device")
        pattern = config.getoption("--kernel")
        for name in [named] if named else ["cpu"] if pattern else EVERYWHERE:
            try:
                self._on(name, pattern)
            except (select.NoSuchKernel, devices.DeviceError) as error:
                if named or pattern:
                    raise pytest.UsageError(f"--kernel/--device: {error}") from None
                self.reasons.append(f"did not run: the device {name}: {error}")

    def _on(self, name: str, pattern: str | None) -> None:
        from checks import command, select

        absent: set[str] = set()
        for device in command.opened(name, self.config.getoption("--dtype")):
            if pattern or self.config.getoption("--all"):
                names = select.matching(pattern or "*", device.language)
                states = {name: "to prove" for name in names}
                away = [n for n in names
                        if select.runs_on(*select.read(n, device.language), device)]
                chosen = [n for n in names if n not in away]
            else:
                count = self.config.getoption("--sample")
                wanted, sample, states = select.changed(device, self.seed, count)
                away = [n for n, state in states.items() if state == "not here"]
                chosen = wanted + sample
                counts = Counter(s for s in states.values() if s != "not here")
                if counts:
                    self.reasons.append(f"committed evidence, {device.evidence}: " + ", ".join(
                        f"{count} {state}" for state, count in sorted(counts.items())))
            absent = absent & set(away) if absent else set(away)
            self.reused[name] += len(states) - len(chosen) - len(away)
            self.kernels += [Kernel(n, name, device.precision.name, device.language)
                             for n in chosen]
        proved = {kernel.version for kernel in self.kernels}
        absent -= proved
        if absent:
            shown = ", ".join(sorted(absent)[:3])
            self.reasons.append(f"not proved here: {len(absent)} versions that {name} does not run "
                                f"({shown}{', ...' if len(absent) > 3 else ''})")


class Told:
    """What the end of a run says of kernels: proofs, from the reports of their tests, and what was
    chosen. Both come from this process or from those that pytest-xdist started."""

    def __init__(self):
        self.proofs: dict[str, dict] = {}
        self.ran: Counter[str] = Counter()  # by device
        self.reused: dict[str, int] = {}
        self.reasons: list[str] = []

    def chosen(self, kernels: Kernels) -> None:
        self.reused, self.reasons = dict(kernels.reused), kernels.reasons

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            for kernel, device, proof in (v for name, v in report.user_properties if name == PROOF):
                self.proofs[kernel] = proof
                self.ran[device] += 1

    @pytest.hookimpl(optionalhook=True)  # pytest-xdist's
    def pytest_testnodedown(self, node, error):
        if PROOF in getattr(node, "workeroutput", {}):
            self.reused, self.reasons = node.workeroutput[PROOF]

    def pytest_sessionfinish(self, session, exitstatus):
        """Nothing checked is a failure. A process of pytest-xdist tells what it has chosen."""
        config = session.config
        kernels = getattr(config, "_kernels", None)
        if kernels is not None:
            self.chosen(kernels)
            getattr(config, "workeroutput", {})[PROOF] = [self.reused, self.reasons]
        if config.getoption("--kernel") and not config.option.collectonly:
            if exitstatus == 0 and all(proof["verdict"] == "not applicable"
                                       for proof in self.proofs.values()):
                session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_terminal_summary(self, terminalreporter, config):
        if not (hasattr(config, "_kernels") or self.reused or self.proofs):
            return
        from checks import report

        terminalreporter.section("kernels")
        for name, proof in self.proofs.items():
            terminalreporter.line(report.line(name, proof))
        for reason in [*(f"did not run: {r}" for r in report.not_run(self.proofs)), *self.reasons]:
            terminalreporter.line(reason)
        for device in dict.fromkeys([*self.reused, *self.ran]):
            terminalreporter.line(f"{device}: reused {self.reused.get(device, 0)} proofs, "
                                  f"ran {self.ran[device]}")
        if not self.proofs:
            terminalreporter.line("no kernel was proved", red=True)


def pytest_configure(config):
    if config.getoption("--case") and not config.getoption("--kernel"):
        raise pytest.UsageError("--case: found no --kernel; a case belongs to one version")
    config.pluginmanager.register(Told())
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
        metafunc.parametrize("kernel", kernels_of(metafunc.config).kernels, ids=str)


@pytest.fixture(scope="session")
def worker():
    """A process in which kernels are judged."""
    from checks.worker import Worker

    with Worker() as worker:
        yield worker


@pytest.fixture
def kernels(request) -> Kernels:
    return kernels_of(request.config)
