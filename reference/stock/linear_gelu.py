"""Linear, then GELU: the two stock operations in a row."""

from reference.stock import gelu, linear


def forward(inp, weight, bias):
    """The product before and after the GELU."""
    pre = linear.forward(inp, weight, bias)["out"]
    return {"pre": pre, "out": gelu.forward(pre)["out"]}
