"""Contracts, version files and binding: what they read, and the errors they give."""

import pytest

from ported import binding, contract, expressions, source
from reference.signature import SignatureError

EXPLICIT = '''
"""A layer."""
from typing import NamedTuple
from reference.shapes import *
class Forward(NamedTuple):
    out: F["N C"]
    total: Sum[G, "C"]
def forward(inp: R["N C"], weight: InOut[P, "C"], lr: Dyn, t: Dyn[I32], V: Axis,
            eps: Const = 1e-5) -> Forward:
    """Prose."""
    return Forward(inp, inp.sum(0))
'''
KERNEL = '''// Idea.
//@ scratch part F32["ceil_div(N, 4) 2*C"] zeroed
//@ needs C % 2 == 0
//@ tune TILE 8 16
//@ claims deterministic
void layer_forward(float* out, float* total, float* weight, float* part, const float* inp,
                   const float* lr, const int* t, int N, int C, int V, float eps, int threads) {}
'''


@pytest.fixture
def files(tmp_path):
    explicit = tmp_path / "reference" / "explicit"
    explicit.mkdir(parents=True)
    (explicit / "layer.py").write_text(EXPLICIT)
    kernel = tmp_path / "ported" / "c_src" / "layer"
    kernel.mkdir(parents=True)
    (kernel / "forward_01_idea.c").write_text(KERNEL)
    return tmp_path


def read(files, kernel=KERNEL, explicit=EXPLICIT):
    (files / "reference" / "explicit" / "layer.py").write_text(explicit)
    path = files / "ported" / "c_src" / "layer" / "forward_01_idea.c"
    path.write_text(kernel)
    return source.read(path), contract.of("layer_forward", files)


def test_a_contract_is_read_without_importing(files):
    made = contract.of("layer_forward", files)
    access = {tensor.name: tensor.access for tensor in made.tensors}
    assert access == {"inp": "in", "weight": "inout", "lr": "in", "t": "in", "out": "out",
                      "total": "sum"}
    assert made.by_name["t"].role == "I32" and made.by_name["t"].dyn
    assert made.consts == {"eps": 1e-5} and made.axis_arguments == ("V",)
    assert made.axes == ("N", "C", "V")


@pytest.mark.parametrize("old, new, says", [
    ("class Forward", "class Result", "found no class Forward; expected a NamedTuple"),
    ("eps: Const = 1e-5", "eps: Const", "found eps: Const alone; expected a default value"),
    ('R["N C"]', 'X["N C"]', """found X['N C']; expected ROLE["AXES"]"""),
    ("lr: Dyn", "lr", "found no annotation"),
    ('InOut[P, "C"]', "Tensor", "found Tensor; expected"),
    ('out: F["N C"]', 'inp: F["N C"]', "found inp as argument and as result; expected InOut"),
    ("def forward", "def forwards", "found no function; expected forward or backward or update"),
])
def test_a_wrong_explicit_file_says_where_and_what(files, old, new, says):
    with pytest.raises(SignatureError, match="layer.py") as error:
        read(files, explicit=EXPLICIT.replace(old, new))
    assert says in str(error.value)


def test_prose_does_not_change_a_contract_and_code_does(files):
    before = contract.of("layer_forward", files).digest
    _, reworded = read(files, explicit=EXPLICIT.replace("Prose.", "Other prose."))
    _, rewritten = read(files, explicit=EXPLICIT.replace("inp.sum(0)", "inp.sum(0) * 2"))
    assert reworded.digest == before != rewritten.digest


def test_comments_do_not_change_a_version_and_code_and_directives_do(files):
    before = read(files)[0].digest
    assert read(files, KERNEL.replace("// Idea.", "// Another.\n"))[0].digest == before
    assert read(files, KERNEL.replace("{}", "{ ; }"))[0].digest != before
    assert read(files, KERNEL.replace("zeroed", ""))[0].digest != before


def test_a_version_that_fits_binds(files):
    version, made = read(files)
    binding.check(version, made)
    assert version.name == "layer_forward_01"
    assert version.scratch[0].axes == ("ceil_div(N, 4)", "2*C") and version.scratch[0].zeroed
    assert version.configurations() == [{"TILE": 8}, {"TILE": 16}]
    assert version.unmet_needs({"C": 3}) == ["C % 2 == 0"]


@pytest.mark.parametrize("old, new, says", [
    ("claims deterministic", "claims fast", "found claim 'fast'; expected one of deterministic"),
    ("//@ needs", "//@ requires", "found directive 'requires'; expected one of block"),
    ("C % 2 == 0", "C % ==", "expected integer arithmetic"),
    ("tune TILE 8 16", "tune TILE eight", "expected integers"),
    ("void layer_forward", "void layer_fwd", "found layer_fwd; expected `void layer_forward"),
    ('F32["ceil_div', 'X["ceil_div', "expected scratch part"),
])
def test_a_wrong_version_file_says_where_and_what(files, old, new, says):
    with pytest.raises(source.SourceError, match="forward_01_idea.c") as error:
        read(files, KERNEL.replace(old, new))
    assert says in str(error.value)


@pytest.mark.parametrize("old, new, says", [
    ("const float* inp", "float* inp", "expected const, since the contract says in"),
    ("float* out", "const float* out", "expected no const, since the contract says out"),
    ("const float* inp", "const int* inp", "found int*; expected float*"),
    ("const float* inp", "const float* x", "neither the contract nor a scratch line knows"),
    ("const float* lr, ", "", "the contract has lr"),
    ("int V", "int W", "a value that is no axis or constant"),
    ("int V", "float V", "found float; expected int"),
])
def test_a_signature_that_does_not_fit_names_both_sides(files, old, new, says):
    with pytest.raises(source.SourceError, match="does not fit layer_forward") as error:
        binding.check(*read(files, KERNEL.replace(old, new)))
    assert says in str(error.value) and 'inp: R["N C"]' in str(error.value)


def test_axes_come_from_shapes_and_sizes(files):
    _, made = read(files)
    shapes = {"inp": (2, 3, 5), "weight": (5,), "out": (6, 5), "total": (5,), "lr": (1,),
              "t": (1,)}
    assert binding.axes_of(made, shapes, {"V": 7}) == {"N": 6, "C": 5, "V": 7}
    with pytest.raises(binding.BindingError, match="no shape shows the axis V"):
        binding.axes_of(made, shapes, {})
    with pytest.raises(binding.BindingError, match=r'out: F\["N C"\] has shape \(6, 4\)'):
        binding.axes_of(made, shapes | {"out": (6, 4)}, {"V": 7})


@pytest.mark.parametrize("text, value", [
    ("ceil_div(N, 4) * 2", 4), ("7 / 2", 3), ("N % 4 == 1 and C > 1", True), ("-N + 3*C", 1),
    ("min(N, C)", 2), ("N == 0 or C % N", True), ("not N", False),
])
def test_expressions(text, value):
    assert expressions.evaluate(text, {"N": 5, "C": 2}) == value


@pytest.mark.parametrize("text, says", [
    ("N +", "not an expression"), ("Q * 2", "uses Q; known here: N"), ("N / 0", "divides by zero"),
    ("__import__('os')", "holds"), ("N ** 2", "holds N ** 2"), ("1.5 * N", "holds 1.5"),
])
def test_wrong_expressions_are_refused_by_name(text, says):
    with pytest.raises(expressions.ExpressionError, match=".*") as error:
        expressions.evaluate(text, {"N": 5})
    assert says in str(error.value)


def test_numbers_run_without_a_gap(files):
    folder = files / "ported" / "c_src" / "layer"
    (folder / "forward_03_gap.c").write_text(KERNEL)
    with pytest.raises(source.SourceError, match=r"numbers \[1, 3\]; expected 1 to 2"):
        source.read_all(files)
    (folder / "forward_03_gap.c").rename(folder / "forward_01_twice.c")
    with pytest.raises(source.SourceError, match="a second layer_forward_01"):
        source.read_all(files)


def test_an_unknown_operation_lists_the_known(files):
    with pytest.raises(contract.ContractError, match="known operations: layer"):
        contract.of("layr_forward", files)


def test_every_version_of_the_tree_fits_its_contract():
    contracts = contract.read_all()
    versions = source.read_all()
    assert versions
    for version in versions.values():
        binding.check(version, contracts[version.contract_name])
