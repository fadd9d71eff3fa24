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


def gelu_forward(axes, device):
    """act = gelu(pre), [N, C]."""
    part = kernel("gelu/forward_02_packets.cu", contract.of("gelu_forward"), axes, device)
    return Renamed(part, {"inp": "pre", "out": "act"})


def gelu_after(axes, device):
    """out = gelu(pre), [N, O]."""
    idea = "04_hardware" if device.precision.name == "bfloat16" else "02_packets"
    part = kernel(f"gelu/forward_{idea}.cu", contract.of("gelu_forward"),
                  {"N": axes["N"], "C": axes["O"]}, device)
    return Renamed(part, {"inp": "pre"})


def gelu_backward(axes, device):
    """dpre = dout times the GELU's slope at pre, [N, O], into scratch."""
    part = kernel("gelu/backward_02_packets.cu", contract.of("gelu_backward"),
                  {"N": axes["N"], "C": axes["O"]}, device)
    dtype = device.precision.dtypes["F"]
    return Renamed(part, {"inp": "pre", "dinp": "dpre"},
                   {"dpre": (dtype, (axes["N"], axes["O"]), False)})
