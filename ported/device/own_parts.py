"""Small kernels of our own around a library's products: what its epilogues do not give.

Each function makes a maker of a part, for `cublaslt.Matmuls(before=.., after=..)`.
"""

from ported import contract
from ported.contract import Contract, Tensor
from ported.device.vendor import Renamed, kernel

_DBIAS = Tensor("dbias", "G", ("O",), "sum")
BIAS_GRADIENT = Contract("bias_gradient", "backward",
                         (Tensor("dout", "F", ("N", "O"), "in"), _DBIAS), {}, (), "")
BIAS_ADD = Contract("bias_add", "backward",
                    (Tensor("row_sums", "F32", ("O",), "in"), _DBIAS), {}, (), "")


def bias_gradient(dout: str = "dout"):
    """dbias += the sum of the rows of `dout` [N, O], in a fixed order."""
    def make(axes, device):
        part = kernel("linear/parts/bias_gradient.cu", BIAS_GRADIENT, axes, device)
        return Renamed(part, {"dout": dout})
    return make


def bias_add(axes, device):
    """dbias += row_sums, which an epilogue gave."""
    part = kernel("linear/parts/bias_add.cu", BIAS_ADD, axes, device)
    return Renamed(part, {}, {"row_sums": ("float32", (axes["O"],), False)})


def _gelu(direction: str, rows: int, columns: int, device):
    """The fastest rung of the precision at [rows, columns]."""
    idea = "05_policies" if device.precision.name == "bfloat16" else "02_packets"
    return kernel(f"gelu/{direction}_{idea}.cu", contract.of(f"gelu_{direction}"),
                  {"N": rows, "C": columns}, device)


def gelu_forward(axes, device):
    """act = gelu(pre), [N, C]."""
    return Renamed(_gelu("forward", axes["N"], axes["C"], device), {"inp": "pre", "out": "act"})


def gelu_after(axes, device):
    """out = gelu(pre), [N, O]."""
    return Renamed(_gelu("forward", axes["N"], axes["O"], device), {"inp": "pre"})


def slope_after(axes, device):
    """dpre, [N, C], times the GELU's slope at pre, in place."""
    return Renamed(_gelu("backward", axes["N"], axes["C"], device),
                   {"inp": "pre", "dout": "dpre", "dinp": "dpre"})


def gelu_backward(axes, device):
    """dpre = dout times the GELU's slope at pre, [N, O], into scratch."""
    part = _gelu("backward", axes["N"], axes["O"], device)
    dtype = device.precision.dtypes["F"]
    return Renamed(part, {"inp": "pre", "dinp": "dpre"},
                   {"dpre": (dtype, (axes["N"], axes["O"]), False)})
