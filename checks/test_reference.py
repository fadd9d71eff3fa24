"""Explicit against stock: outputs, gradients by autograd, gradients by finite differences.

Cases are made from the signatures, so a new operation is tested by being there.
"""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.agreement import assert_agree
from reference import shapes, stock
from reference.signature import DIRECTIONS, operations, signature

REFERENCE = Path(__file__).parent.parent / "reference"
SIZES = [
    {"B": 2, "T": 5, "N": 7, "C": 6, "O": 9, "H": 2, "D": 3, "V": 11, "Vp": 13, "Tmax": 8,
     "S": 3, "E": 4},
    {"B": 1, "T": 13, "N": 1, "C": 17, "O": 3, "H": 1, "D": 5, "V": 5, "Vp": 5, "Tmax": 13,
     "S": 1, "E": 7},
    {"B": 3, "T": 8, "N": 31, "C": 5, "O": 1, "H": 5, "D": 4, "V": 2, "Vp": 128, "Tmax": 9,
     "S": 5, "E": 1},
]
any_sizes = st.fixed_dictionaries({axis: st.integers(1, 6) for axis in SIZES[0]}).map(
    lambda s: s | {"Vp": s["V"] + s["Vp"] - 1, "Tmax": s["T"] + s["Tmax"] - 1}
)

@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small wait longer for threads than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def has(operation: str, direction: str) -> bool:
    tree = ast.parse((REFERENCE / "explicit" / f"{operation}.py").read_text())
    return any(isinstance(n, ast.FunctionDef) and n.name == direction for n in tree.body)


def explicit(operation: str, direction: str):
    return getattr(importlib.import_module(f"reference.explicit.{operation}"), direction)


ALL = [(o, d) for o in operations() for d in DIRECTIONS if has(o, d)]
WITH_BACKWARD = [operation for operation, direction in ALL if direction == "backward"]
FORWARD = [(operation, direction) for operation, direction in ALL if direction != "backward"]


def draw(name, note, sizes, random):
    """A value for an argument: what its name and annotation allow."""
    if note is shapes.Axis:
        return sizes[name]
    shape = note.shape(sizes)
    if name == "t":
        return torch.randint(1, 1000, shape, generator=random, dtype=torch.int32)
    if name in ("tokens", "targets"):
        return torch.randint(0, sizes["V"], shape, generator=random, dtype=torch.int32)
    if name == "decay":
        return torch.randint(0, 2, shape, generator=random).double()
    value = torch.randn(shape, generator=random, dtype=torch.float64)
    return value.abs() if name in ("v", "scale", "lr") else value


def inputs_of(operation, direction, sizes, seed=0):
    """Random arguments for a forward or update; constants are not quite their defaults."""
    random = torch.Generator().manual_seed(seed)
    sig = signature(f"{operation}_{direction}")
    consts = {name: 0.9 * default for name, default in sig.consts.items()}
    notes = {name: note for name, note in sig.arguments.items() if name not in consts}
    return {name: draw(name, note, sizes, random) for name, note in notes.items()} | consts


def backward_case(operation, sizes, seed=0):
    """Forward inputs, random gradients of the outputs, and backward's arguments made of both."""
    inputs = inputs_of(operation, "forward", sizes, seed)
    known = {**inputs, **explicit(operation, "forward")(**inputs)._asdict()}
    random = torch.Generator().manual_seed(seed + 1)
    arguments, douts = {}, {}
    for name, note in signature(f"{operation}_backward").arguments.items():
        if note is shapes.Axis:
            arguments[name] = sizes[name]
        elif name in known:
            arguments[name] = known[name]
        else:
            arguments[name] = douts[name] = draw(name, note, sizes, random)
    return inputs, douts, arguments


def check_forward(operation, direction, sizes, seed=0, floor=0.0):
    inputs = inputs_of(operation, direction, sizes, seed)
    found = explicit(operation, direction)(**inputs)._asdict()
    module = importlib.import_module(f"reference.stock.{operation}")
    assert_agree(found, getattr(module, direction)(**inputs), floor=floor)
    for name, note in signature(f"{operation}_{direction}").results.items():
        assert found[name].shape == note.shape(sizes), name


def check_backward(operation, sizes, seed=0, floor=0.0):
    inputs, douts, arguments = backward_case(operation, sizes, seed)
    found = explicit(operation, "backward")(**arguments)._asdict()
    truth = stock.gradients(operation, inputs, douts)
    assert_agree(found, {name: truth[name] for name in found}, floor=floor)
    for name, note in signature(f"{operation}_backward").results.items():
        assert found[name].shape == note.shape(sizes), name


@pytest.mark.parametrize("sizes", SIZES, ids=["odd", "one-row", "long"])
@pytest.mark.parametrize("operation,direction", FORWARD)
def test_outputs_are_stocks(operation, direction, sizes):
    check_forward(operation, direction, sizes)


@pytest.mark.parametrize("sizes", SIZES, ids=["odd", "one-row", "long"])
@pytest.mark.parametrize("operation", WITH_BACKWARD)
def test_gradients_are_autograds(operation, sizes):
    check_backward(operation, sizes)


# Where a gradient is zero in the mathematics (LayerNorm of one channel) only rounding is left, so
# over all sizes the error is taken relative to numbers of size one.
@settings(max_examples=15, deadline=None)
@given(sizes=any_sizes, seed=st.integers(0, 2**31))
@pytest.mark.parametrize("operation,direction", ALL)
def test_any_sizes(operation, direction, sizes, seed):
    if direction == "backward":
        check_backward(operation, sizes, seed, floor=1.0)
    else:
        check_forward(operation, direction, sizes, seed, floor=1.0)


class Explicit(torch.autograd.Function):
    """An explicit forward and backward as one function that autograd can differentiate."""

    @staticmethod
    def forward(ctx, operation, sizes, rest, names, *leaves):
        inputs = {**rest, **dict(zip(names, leaves, strict=True))}
        outputs = explicit(operation, "forward")(**inputs)._asdict()
        wanted = signature(f"{operation}_backward").arguments
        ctx.case = operation, names, {**sizes, **inputs, **outputs}
        ctx.outputs = [name for name in outputs if f"d{name}" in wanted]
        return tuple(outputs[name] for name in ctx.outputs)

    @staticmethod
    def backward(ctx, *gradients):
        operation, names, known = ctx.case
        known |= {f"d{name}": g for name, g in zip(ctx.outputs, gradients, strict=True)}
        wanted = signature(f"{operation}_backward").arguments
        found = explicit(operation, "backward")(**{name: known[name] for name in wanted})
        return None, None, None, None, *(getattr(found, f"d{name}") for name in names)


@pytest.mark.parametrize("operation", WITH_BACKWARD)
def test_gradcheck(operation):
    sizes = {"B": 2, "T": 3, "N": 3, "C": 4, "O": 5, "H": 2, "D": 2, "V": 5, "Vp": 6, "Tmax": 4}
    inputs = inputs_of(operation, "forward", sizes)
    leaves = {name: value.requires_grad_() for name, value in inputs.items()
              if isinstance(value, torch.Tensor) and value.is_floating_point()}
    rest = {name: value for name, value in inputs.items() if name not in leaves}
    assert torch.autograd.gradcheck(
        lambda *tensors: Explicit.apply(operation, sizes, rest, list(leaves), *tensors),
        list(leaves.values()),
    )


@pytest.mark.parametrize("operation,direction", FORWARD)
def test_float32_stays_float32(operation, direction):
    inputs = inputs_of(operation, direction, SIZES[0])
    floats = {name: value.float() if getattr(value, "dtype", None) == torch.float64 else value
              for name, value in inputs.items()}
    found = explicit(operation, direction)(**floats)._asdict()
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert_agree(found, explicit(operation, direction)(**inputs)._asdict(), bound=1e-5)


@pytest.mark.parametrize("size", [1e-3, 1e3])
@pytest.mark.parametrize("max_norm", [0.0, 0.3, 1.0])
def test_clipping_is_stocks(size, max_norm):
    dweight = size * inputs_of("global_norm", "update", SIZES[0])["dweight"]
    module = importlib.import_module("reference.stock.global_norm")
    found = explicit("global_norm", "update")(dweight, max_norm)._asdict()
    assert_agree(found, module.update(dweight, max_norm))
    assert (found["scale"].item() == 1) == (size == 1e-3 or max_norm == 0)


def test_nan_reaches_every_result():
    for operation, direction in FORWARD:
        inputs = inputs_of(operation, direction, SIZES[0])
        for name, value in inputs.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                poisoned = {**inputs, name: torch.full_like(value, torch.nan)}
                found = explicit(operation, direction)(**poisoned)
                assert any(result.isnan().any() for result in found), f"{operation} lost {name}"


def test_stock_names_unknown_gradients():
    inputs = inputs_of("linear", "forward", SIZES[0])
    with pytest.raises(ValueError, match="dlogits, but forward's outputs are out"):
        stock.gradients("linear", inputs, {"dlogits": inputs["inp"]})


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_reference_imports_neither_ported_nor_checks():
    for path in REFERENCE.rglob("*.py"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & {"ported", "checks"}, path


def test_explicit_and_stock_share_nothing():
    for path in (REFERENCE / "explicit").glob("*.py"):
        forbidden = ("torch.nn", "torch.autograd", "reference.stock")
        assert not [name for name in imports(path) if name.startswith(forbidden)], path
    for path in (REFERENCE / "stock").glob("*.py"):
        assert not [name for name in imports(path) if "explicit" in name], path


def test_program_side_is_torch_free():
    code = (
        "import sys, reference.shapes, reference.program, reference.rewrites;"
        "from reference.programs.gpt2 import gpt2; gpt2('test', 2, 8, fuse='all');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REFERENCE.parent).returncode == 0
