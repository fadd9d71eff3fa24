"""Output head: a score for every word, from the product of a row with every word's embedding.

    logits = inp @ weight^T                           [N Vp]

It is `linear` without a bias, and `weight` is the token embedding `wte` itself: a word is likely
where the row points the way the word's embedding does. With the table shared, GPT-2 has 39 million
parameters fewer (of 124), and words that seldom come in still learn from going out.

Backward is that of `linear`:

    dinp    = dlogits @ weight                        [N C]
    dweight = dlogits^T @ inp                         [Vp C]

dweight is a `Sum`: the embedding adds its own part to the same gradient, and with the head in
chunks of rows every chunk does. Rows V..Vp-1 of `weight` are padding: they are zero, so are their
logits, and since their dlogits are zero too they stay zero.

Source: Press, Wolf, "Using the Output Embedding to Improve Language Models", 2017
(arXiv:1608.05859).
"""

from typing import NamedTuple

from reference.shapes import F, G, P, Sum

# Operations of the products, two a multiply-add.
FLOPS = {"forward": "2*N*C*Vp", "backward": "4*N*C*Vp"}


class Forward(NamedTuple):
    logits: F["N Vp"]


class Backward(NamedTuple):
    dinp: F["N C"]
    dweight: Sum[G, "Vp C"]


def forward(inp: F["N C"], weight: P["Vp C"]) -> Forward:
    """Scores of all Vp words for each row of `inp` [N, C]."""
    return Forward(inp @ weight.T)


def backward(dlogits: F["N Vp"], inp: F["N C"], weight: P["Vp C"]) -> Backward:
    """Gradients of the input and of the embedding table (summed over rows)."""
    return Backward(dlogits @ weight, dlogits.T @ inp)
