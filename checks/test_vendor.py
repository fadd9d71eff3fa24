"""Vendor versions without a GPU: stand-ins take the libraries' place and the machine's memory that
of the device. What a plan asks of a library is carried out by NumPy and judged by the explicit
function in float64.
"""

import ctypes
import importlib
import importlib.util
import inspect
import re
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from checks.cublaslt_stand_in import CublasLt, gelu, gelu_slope, memory
from checks.cudnn_stand_in import Cudnn, Graph
from ported import contract, precision, source
from ported.binding import product
from ported.contract import ROOT
from ported.device import NotApplicable, cublaslt, cudnn, vendor
from ported.device.cuda import module_of
from ported.precision import NUMPY, decode, encode, rounded

VERSIONS = {f"{v.contract_name}-{v.idea_name}": v for v in map(
    source.read, sorted((ROOT / "cuda_src").glob("*/*cublaslt*.py")))}
ATTENTION = {f"{v.contract_name}-{v.idea_name}": v for v in map(
    source.read, sorted((ROOT / "cuda_src").glob("*/*cudnn*.py")))}
SHAPES = [{"N": 24, "C": 16, "O": 40}, {"N": 1, "C": 8, "O": 8}, {"N": 5, "C": 64, "O": 24}]


class Device:
    """The machine's memory as a device. `free` forgets; `elapsed` counts work, it does not time."""

    def __init__(self, name: str):
        self.precision = precision.of(name)
        self.stream = SimpleNamespace(handle=77)
        self.driver = SimpleNamespace(memcpy_dtod_async=lambda to, start, n, stream:
                                      ctypes.memmove(to, start, n))
        self.held: dict[int, np.ndarray] = {}

    def allocate(self, nbytes: int) -> int:
        store = np.zeros(nbytes + 512, np.uint8)
        address = -(-store.ctypes.data // 256) * 256
        self.held[address] = store
        return address

    def free(self, address: int) -> None:
        del self.held[address]

    def fill(self, address: int, nbytes: int, byte: int = 0) -> None:
        ctypes.memset(address, byte, nbytes)

    def elapsed(self, call, repeats: int = 1) -> list[float]:
        call()
        words = memory(call.arguments[12], 64, np.uint64)
        return [float(abs(int(words[0]) - 67))] * repeats  # the second algorithm is the fastest

    def load(self, version, its_contract, axes, parameters):
        """Kernels of our own: NumPy in their place."""
        assert not version.unmet_needs(dict(axes))
        assert version.supports(self.precision, its_contract.roles)
        return OwnKernel(self, version, its_contract, axes)


class OwnKernel:
    def __init__(self, device, version, its_contract, axes):
        self.device, self.contract, self.axes = device, its_contract, axes
        self.scratch = {part.name: ("float32", (product(int(a) if a.isdigit() else axes[a]
                                                        for a in part.axes),), part.zeroed)
                        for part in version.scratch}

    def bind(self, addresses, consts):
        views = {t.name: self._view(t, addresses[t.name]) for t in self.contract.tensors}
        return partial(getattr(self, self.contract.name), **views)

    def _view(self, tensor, address):
        dtype = self.device.precision.dtypes[tensor.role]
        shape = tensor.shape(self.axes)
        kind = np.dtype(NUMPY[dtype])
        return memory(address, kind.itemsize * product(shape), kind).reshape(shape)

    def _number(self, array):
        return decode(array, self.device.precision.dtypes["F"]).astype(float)

    def bias_gradient_backward(self, dout, dbias):
        dbias += self._number(dout).sum(0).astype(np.float32)

    def bias_add_backward(self, row_sums, dbias):
        dbias += row_sums

    def gelu_forward(self, inp, out):
        out[:] = encode(gelu(self._number(inp)), self.device.precision.dtypes["F"])

    def gelu_backward(self, dout, inp, dinp):
        slope = gelu_slope(self._number(inp))
        dinp[:] = encode(self._number(dout) * slope, self.device.precision.dtypes["F"])


@pytest.fixture
def lt(monkeypatch):
    library = CublasLt()
    monkeypatch.setattr(cublaslt, "library", lambda: library)
    monkeypatch.setattr(cublaslt, "_handles", {})
    return library


class Bench:
    """Buffers of one version at one shape, and the explicit function's answer."""

    def __init__(self, version, device, sizes, shift=0):
        self.version, self.device, self.shift = version, device, shift
        self.contract = contract.of(version.contract_name)
        self.axes = {**sizes, "Vp": sizes["O"]} if "O" in sizes else sizes
        random = np.random.default_rng(7)
        self.numbers, self.addresses = {}, {}
        for tensor in self.contract.tensors:
            dtype = device.precision.dtypes[tensor.role]
            held = encode(random.normal(size=tensor.shape(self.axes)), dtype)
            self.numbers[tensor.name] = decode(held, dtype).astype(float)
        for name, held in self._consistent().items():
            self.numbers[name] = held
        for tensor in self.contract.tensors:
            dtype = device.precision.dtypes[tensor.role]
            held = encode(self.numbers[tensor.name], dtype)
            self.addresses[tensor.name] = self._place(tensor, held)

    def _consistent(self) -> dict[str, np.ndarray]:
        """Inputs that follow from others: attention's backward wants its forward's out and lse."""
        if self.version.contract_name != "attention_backward":
            return {}
        from reference.explicit import attention

        found = attention.forward(torch.from_numpy(self.numbers["qkv"]), self.axes["H"])
        return {"out": rounded(found.out.numpy(), "bfloat16").astype(float),
                "lse": found.lse.numpy().astype(np.float32).astype(float)}

    def _place(self, tensor, held) -> int:
        address = self.device.allocate(held.nbytes + 64 * 4) + self.shift * held.itemsize
        if tensor.access == "out":
            held = np.full_like(held, 0x7FC1 if held.itemsize == 2 else np.nan)
        ctypes.memmove(address, held.ctypes.data, held.nbytes)
        return address

    def run(self, parameters=None) -> dict[str, np.ndarray]:
        """What the outputs hold after one call, as float32."""
        plan = module_of(self.version).plan(self.axes, parameters or {}, self.device)
        scratch = {}
        for name, (dtype, shape, zeroed) in plan.scratch.items():
            nbytes = np.dtype(NUMPY[dtype]).itemsize * product(shape)
            scratch[name] = self.device.allocate(nbytes) + 4 * self.shift * (nbytes > 256)
            self.device.fill(scratch[name], nbytes - 256, 0 if zeroed else 0xFF)
        plan.bind({**self.addresses, **scratch}, {})()
        return {t.name: self._read(t) for t in self.contract.outputs}

    def _read(self, tensor):
        dtype = self.device.precision.dtypes[tensor.role]
        kind, shape = np.dtype(NUMPY[dtype]), tensor.shape(self.axes)
        array = memory(self.addresses[tensor.name], kind.itemsize * product(shape), kind)
        return decode(array.reshape(shape), dtype).copy()

    def expected(self) -> dict[str, np.ndarray]:
        explicit = importlib.import_module(f"reference.explicit.{self.version.operation}")
        inputs = {t.name: torch.from_numpy(self.numbers[t.name]) for t in self.contract.inputs}
        inputs |= {axis: self.axes[axis] for axis in self.contract.axis_arguments}
        found = getattr(explicit, self.version.direction)(**inputs)._asdict()
        start = {t.name: self.numbers[t.name] if t.access == "sum" else 0.0
                 for t in self.contract.outputs}
        return {name: value.numpy() + start[name] for name, value in found.items()}


def precisions(version) -> list[str]:
    roles = contract.of(version.contract_name).roles
    return [name for name, one in precision.PRECISIONS.items() if version.supports(one, roles)]


CASES = [pytest.param(version, name, id=f"{key}-{name}") for key, version in VERSIONS.items()
         for name in precisions(version)]


@pytest.mark.parametrize("version, name", CASES)
def test_products_are_the_explicit_functions(lt, version, name):
    """Layouts, transposes, epilogues, alpha and beta: every output, against float64."""
    for sizes in SHAPES:
        bench = Bench(version, Device(name), sizes)
        expected = bench.expected()
        for output, found in bench.run().items():
            scale = np.abs(expected[output]).max()
            unit = 2**-7 if name == "bfloat16" else 1e-5
            np.testing.assert_allclose(found, expected[output], rtol=0, atol=unit * scale,
                                       err_msg=f"{output} at {sizes}")
        compute = cublaslt.COMPUTE["tf32" if version.products == "tf32" else "float32"]
        assert {run[3] for run in lt.run} == {compute} and {run[4] for run in lt.run} == {77}


@pytest.mark.parametrize("version, name", CASES)
def test_addresses_that_lie_badly_change_nothing(lt, version, name):
    """Any element may be the first: the same bits, and the memory for it is given back."""
    straight = Bench(version, Device(name), SHAPES[0]).run()
    for shift in (1, 3, 8, 15):
        device = Device(name)
        shifted = Bench(version, device, SHAPES[0], shift)
        count = len(device.held)
        again = shifted.run()
        assert all(np.array_equal(straight[output], again[output]) for output in straight)
        assert len(device.held) == count + len(
            module_of(version).plan(shifted.axes, {}, device).scratch)


@pytest.mark.parametrize("version, name", CASES)
def test_an_algorithm_is_recorded_as_integers(lt, version, name):
    """The library's choice first; the fastest of each product next; recorded, it comes back."""
    bench = Bench(version, Device(name), SHAPES[0])
    module, held = module_of(version), len(bench.device.held)
    found = module.candidates(bench.axes, bench.device)
    assert len(bench.device.held) == held  # what timing needed is free again
    problems = module.vendor.problems(bench.axes, bench.device)
    ids = [f"{problem.product.out.name}_id" for problem in problems]
    assert [found[0][one] for one in ids] == [66] * len(ids)
    assert [found[1][one] for one in ids] == [67] * len(ids)
    assert len({tuple(sorted(one.items())) for one in found}) == len(found)
    for problem in problems:
        choice = problem.choices(3)[1]
        again = problem.algorithm(problem.settings(choice))
        assert np.array_equal(again.words, choice.words) and again.nbytes == choice.nbytes
        assert all(isinstance(value, int) for value in problem.settings(choice).values())
    chosen, favourite = bench.run(found[1]), bench.run()
    for output, array in chosen.items():  # Sums have been added to twice by now
        access = bench.contract.by_name[output].access
        assert access == "sum" or np.array_equal(array, favourite[output])


def test_an_algorithm_that_is_not_there_is_refused(lt):
    version = VERSIONS["head_forward-cublaslt"]
    axes = {"N": 8, "C": 8, "Vp": 128}
    with pytest.raises(NotApplicable, match=r"not the algorithm .*logits \[8, 128\]|logits"):
        module_of(version).plan(axes, {"logits_id": 1}, Device("float32"))


def test_no_algorithm_is_not_applicable(lt):
    def none(*arguments):
        raise lt.cuBLASLtError(cublaslt.NOT_SUPPORTED)

    lt.matmul_algo_get_heuristic = none
    with pytest.raises(NotApplicable, match="no algorithm for logits"):
        module_of(VERSIONS["head_forward-cublaslt"]).plan({"N": 8, "C": 8, "Vp": 128}, {},
                                                          Device("bfloat16"))


def test_descriptors_are_destroyed(lt):
    bench = Bench(VERSIONS["linear_backward-cublaslt"], Device("bfloat16"), SHAPES[0])
    bench.run()
    assert {what["kind"] for what in lt.objects.values()} == {"handle"}


def test_products_whose_shapes_do_not_meet_are_refused():
    left, right = cublaslt.Matrix("a", "F", 4, 8), cublaslt.Matrix("b", "F", 4, 8)
    with pytest.raises(ValueError, match=r"found \(4, 8\) @ \(4, 8\) into"):
        cublaslt.Product(cublaslt.Matrix("c", "F", 4, 8), left, right)


@pytest.fixture
def dnn(monkeypatch):
    package = Cudnn()
    monkeypatch.setattr(cudnn, "library", lambda: package)
    monkeypatch.setattr(cudnn, "_handles", {})
    monkeypatch.setattr(cudnn, "_graphs", {})
    return package


@pytest.mark.parametrize("version", ATTENTION.values(), ids=ATTENTION)
@pytest.mark.parametrize("sizes", [{"B": 2, "T": 19, "H": 3, "D": 16},
                                   {"B": 1, "T": 2, "H": 1, "D": 8}], ids=str)
def test_attention_is_the_explicit_function(dnn, version, sizes):
    """Strides, offsets and the scale, at straight addresses and at others, to the same bits."""
    device = Device("bfloat16")
    bench = Bench(version, device, sizes)
    expected, first = bench.expected(), bench.run()
    for output, found in first.items():
        unit = 2**-7 if output != "lse" else 1e-5
        np.testing.assert_allclose(found, expected[output], rtol=0,
                                   atol=unit * np.abs(expected[output]).max(), err_msg=output)
    again = Bench(version, device, sizes, shift=3).run()
    assert all(np.array_equal(first[output], again[output]) for output in first)
    assert dnn.graphs == 1  # one a shape
    if version.direction == "backward":
        assert dnn.deterministic == ["deterministic" in version.claims]


def test_attention_plans_are_recorded_as_integers(dnn):
    """Those that build, and only the library's own; recorded, a plan comes back."""
    version, sizes = ATTENTION["attention_forward-cudnn"], {"B": 1, "T": 4, "H": 1, "D": 8}
    device = Device("bfloat16")
    found = module_of(version).candidates(sizes, device)
    assert found == [{"engine": 4, "knob_TILE_M": 64}, {"engine": 6, "knob_TILE_M": 192}]
    first, second = (module_of(version).plan(sizes, one, device) for one in found)
    assert first.scratch["workspace"][1] < second.scratch["workspace"][1]
    with pytest.raises(NotApplicable, match="none of that description"):
        module_of(version).plan(sizes, {"engine": 9}, device)
    dnn.refused = {5}
    with pytest.raises(NotApplicable, match="B=1, T=5, H=1, D=8: no engine for these sizes"):
        module_of(version).plan({**sizes, "T": 5}, {}, device)


@pytest.mark.skipif(importlib.util.find_spec("nvmath") is None, reason="nvmath is not installed")
def test_stand_in_has_the_bindings_signatures():
    """Names and order of every argument, and every enumerator, as in nvmath's bindings."""
    real = cublaslt.library()
    for name, function in inspect.getmembers(CublasLt, inspect.isfunction):
        if name.startswith("_"):
            continue
        words = re.match(rf"{name}\(([^)]*)\)", getattr(real, name).__doc__ or f"{name}()")
        names = [word.split()[-1] for word in words[1].split(",") if word]
        assert list(inspect.signature(function).parameters)[1:] == names, name
    for name in ("Epilogue", "ReductionScheme", "MatmulDescAttribute", "MatmulAlgoConfigAttribute",
                 "MatmulPreferenceAttribute"):
        for member in getattr(CublasLt, name):
            assert getattr(real, name)[member.name] == member
    assert real.matmul_heuristic_result_dtype == CublasLt.matmul_heuristic_result_dtype
    for attribute in CublasLt.MatmulDescAttribute:
        size = np.dtype(real.get_matmul_desc_attribute_dtype(attribute)).itemsize
        assert size == np.dtype(CublasLt().get_matmul_desc_attribute_dtype(attribute)).itemsize
    assert "nvmath" not in sys.modules and vendor.imported("nvmath", "nvmath-python").__version__


@pytest.mark.skipif(importlib.util.find_spec("cudnn") is None, reason="cudnn is not installed")
def test_stand_in_has_the_packages_arguments():
    """Each argument of the nodes is one that cudnn's own node takes."""
    real = cudnn.library()
    for name in ("sdpa", "sdpa_backward"):
        ours = {word for word in inspect.signature(getattr(Graph, name)).parameters}
        theirs = getattr(real._pybind_module.backend_graph, name).__doc__.split("->")[0]
        assert ours - {"self"} <= set(re.findall(r"(\w+):", theirs)), name
    init = inspect.signature(real.pygraph.__init__).parameters
    assert set(inspect.signature(Graph.__init__).parameters) - {"cudnn"} <= set(init)
