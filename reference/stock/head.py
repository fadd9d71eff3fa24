"""Output head: PyTorch's Linear without a bias."""

from torch.nn import functional


def forward(inp, weight):
    """torch.nn.functional.linear with the token embedding as its weight."""
    return {"logits": functional.linear(inp, weight)}
