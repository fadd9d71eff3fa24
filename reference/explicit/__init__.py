"""Every operation in plain tensors, forward and backward, with the derivation beside the code.

No autograd and no torch.nn.functional. A file's signatures are the contract of its kernels, its
docstring is the page that teaches the operation. The functions run in any floating dtype; in
float64 they are the truth that kernels are judged by. Of a `Sum` output the summand is returned.
"""
