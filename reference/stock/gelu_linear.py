"""GELU, then linear: the two stock operations in a row."""

from reference.stock import gelu, linear


def forward(pre, weight, bias):
    """The activation and its product."""
    act = gelu.forward(pre)["out"]
    return {"act": act, "out": linear.forward(act, weight, bias)["out"]}
