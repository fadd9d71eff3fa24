"""Embedding: a token's vector plus its position's vector.

    out[b, t] = wte[tokens[b, t]] + wpe[t]

Backward. A row of a table receives the gradient of every place that read it. Position t was read
once in each sequence; word w was read wherever it occurs:

    dwpe[t] = sum_b dout[b, t]                        rows T..Tmax-1 were not read: zero
    dwte[w] = sum of dout[b, t] over the (b, t) with tokens[b, t] = w

The second is a scatter: it reads dout in order and writes wherever the tokens say, several times to
the same row. A fast version must not let two threads add to one row at once, and a deterministic
one must add a row's parts in a fixed order. (Seen as a product it is the one-hot matrix of the
tokens, transposed, times dout: `linear` whose weight is the table.)

Vp and Tmax, the lengths of the tables, appear in no input of backward and are therefore given.
Nothing is saved but the tokens.

Source: Bengio, Ducharme, Vincent, Jauvin, "A Neural Probabilistic Language Model", JMLR 3, 2003;
learned positions: Gehring et al., 2017 (arXiv:1705.03122), as in GPT-2 (Radford et al., 2019).
"""

from typing import NamedTuple

from reference.shapes import I32, Axis, G, P, R, Sum

# Bytes: of wte only the rows of B*T tokens are touched (each counted once a token).
BYTES = {"forward": "4*(B*T*(2*C + 1) + T*C)", "backward": "4*(B*T*(3*C + 1) + 2*T*C)"}


class Forward(NamedTuple):
    out: R["B T C"]


class Backward(NamedTuple):
    dwte: Sum[G, "Vp C"]
    dwpe: Sum[G, "Tmax C"]


def forward(tokens: I32["B T"], wte: P["Vp C"], wpe: P["Tmax C"]) -> Forward:
    """Vectors [B, T, C] of the tokens [B, T], each from 0 to V-1, at positions 0 to T-1."""
    T = tokens.shape[1]
    return Forward(wte[tokens] + wpe[:T])


def backward(dout: R["B T C"], tokens: I32["B T"], Vp: Axis, Tmax: Axis) -> Backward:
    """Gradients of both tables; rows that were not read receive zero."""
    _, T, C = dout.shape
    dwte = dout.new_zeros(Vp, C).index_add_(0, tokens.flatten(), dout.flatten(0, 1))
    dwpe = dout.new_zeros(Tmax, C)
    dwpe[:T] = dout.sum(0)
    return Backward(dwte, dwpe)
