"""Residual, then LayerNorm: the two stock operations in a row."""

from reference.stock import layernorm, residual


def forward(inp1, inp2, weight, bias, eps=1e-5):
    """The sum and its normalised rows."""
    res = residual.forward(inp1, inp2)["out"]
    return {"res": res, **layernorm.forward(res, weight, bias, eps)}
