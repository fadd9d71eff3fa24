"""The matrix products of the layers, as a vendor's library is asked for them (see cublaslt).

Everything is row-major: inp [N, C], weight [O, C], out [N, O]. A forward takes rows of `inp` by
rows of `weight`; a backward gives each factor of that product dout times the other factor.
"""

from collections.abc import Mapping

from ported.device.cublaslt import Matrix, Product

Axes = Mapping[str, int]


def linear_forward(axes: Axes, out: str = "out") -> list[Product]:
    """out = inp @ weight^T + bias, the bias added in the epilogue."""
    return [Product(Matrix(out, "F", axes["N"], axes["O"]),
                    Matrix("inp", "F", axes["N"], axes["C"]),
                    Matrix("weight", "P", axes["O"], axes["C"]).T, "BIAS", vector="bias")]


def linear_gelu_forward(axes: Axes) -> list[Product]:
    """pre = inp @ weight^T + bias goes to memory on the way, out = gelu(pre) after it."""
    return [Product(Matrix("out", "F", axes["N"], axes["O"]),
                    Matrix("inp", "F", axes["N"], axes["C"]),
                    Matrix("weight", "P", axes["O"], axes["C"]).T, "GELU_AUX_BIAS", vector="bias",
                    aux="pre")]


def linear_then_gelu(axes: Axes) -> list[Product]:
    """pre = inp @ weight^T + bias; its GELU is made after."""
    return linear_forward(axes, out="pre")


def gelu_linear_forward(axes: Axes) -> list[Product]:
    """out = act @ weight^T + bias, with act made before."""
    return [Product(Matrix("out", "F", axes["N"], axes["O"]),
                    Matrix("act", "F", axes["N"], axes["C"]),
                    Matrix("weight", "P", axes["O"], axes["C"]).T, "BIAS", vector="bias")]


def _weight_gradient(axes: Axes, dout: str, inp: str) -> Product:
    """dweight += dout^T @ inp, in float32 whatever the activations are."""
    return Product(Matrix("dweight", "G", axes["O"], axes["C"]),
                   Matrix(dout, "F", axes["N"], axes["O"]).T,
                   Matrix(inp, "F", axes["N"], axes["C"]), accumulate=True)


def linear_backward(axes: Axes, dout: str = "dout") -> list[Product]:
    """dinp = dout @ weight; dweight += dout^T @ inp."""
    dinp = Product(Matrix("dinp", "F", axes["N"], axes["C"]),
                   Matrix(dout, "F", axes["N"], axes["O"]),
                   Matrix("weight", "P", axes["O"], axes["C"]))
    return [dinp, _weight_gradient(axes, dout, "inp")]


def linear_gelu_backward(axes: Axes) -> list[Product]:
    """linear's, at the gradient of what went into the GELU."""
    return linear_backward(axes, dout="dpre")


def gelu_linear_backward(axes: Axes) -> list[Product]:
    """dpre = (dout @ weight) times the GELU's slope at pre; dweight += dout^T @ act."""
    dpre = Product(Matrix("dpre", "F", axes["N"], axes["C"]),
                   Matrix("dout", "F", axes["N"], axes["O"]),
                   Matrix("weight", "P", axes["O"], axes["C"]), "DGELU", aux="pre")
    return [dpre, _weight_gradient(axes, "dout", "act")]


def gelu_linear_products(axes: Axes) -> list[Product]:
    """dact = dout @ weight, to where dpre belongs; dweight += dout^T @ act."""
    epilogue, gradient = gelu_linear_backward(axes)
    return [Product(epilogue.out, epilogue.left, epilogue.right), gradient]


def with_bias_gradient(products: list[Product]) -> list[Product]:
    """The same, the last one also giving the sum of dout's rows, as `row_sums`."""
    *others, last = products
    given = Product(last.out, last.left, last.right, "BGRADB", vector="row_sums", accumulate=True)
    return [*others, given]


def head_forward(axes: Axes) -> list[Product]:
    """logits = inp @ weight^T."""
    return [Product(Matrix("logits", "F", axes["N"], axes["Vp"]),
                    Matrix("inp", "F", axes["N"], axes["C"]),
                    Matrix("weight", "P", axes["Vp"], axes["C"]).T)]


def head_backward(axes: Axes) -> list[Product]:
    """dinp = dlogits @ weight; dweight += dlogits^T @ inp."""
    named = {**axes, "O": axes["Vp"]}
    return linear_backward(named, dout="dlogits")
