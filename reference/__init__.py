"""What every layer of GPT-2 means, said twice: as stock PyTorch and as explicit tensors.

The legend of the whole project; no other file repeats it.

Axes
    B   sequences in a batch                 V     words in the vocabulary
    T   positions in a sequence              Vp    V padded to a multiple of 128
    N   rows, B*T                            Tmax  positions that the model has embeddings for
    C   channels that come in                L     layers (blocks)
    O   channels that go out                 S     segments of a region
    H   attention heads                      E     elements of a segment, 256
    D   channels of one head, C/H

Tensors
    inp, out      what comes in, what goes out          qkv     queries, keys, values side by side
    weight, bias  learned; weights lie as ["O C"]       wte     token embedding and output head
    mean, rstd    of a row: mean, 1/standard deviation  wpe     position embedding
    lse           log-sum-exp of a row of scores        logits  scores of the next word
    losses        one loss a row, in nats               m, v    AdamW's moments
    dX            gradient of the loss by X             decay   1 where weights decay, else 0

Roles, each a dtype of its own at run time
    F   activations          P   parameters             F32  always float32
    R   residual stream      G   parameter gradients    I32  always int32

`explicit/` is the specification: one file an operation, its signature the contract of its kernels.
`stock/` shares no code with it and judges it. `programs/` wires operations into a model,
`rewrites.py` fuses and recomputes, `interpreter.py` runs the result with the explicit functions.
"""
