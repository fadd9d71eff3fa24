# The GELU by a kernel of our own, then the vendor's product with the bias in its epilogue.
#
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import gelu_forward
from ported.device.products import gelu_linear_forward

vendor = Matmuls("gelu_linear_forward", gelu_linear_forward, before=[gelu_forward])
plan, candidates = vendor.plan, vendor.candidates
