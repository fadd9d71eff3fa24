# The GELU by a kernel of our own, then the vendor's product as TF32.
# Against the version before: factors are rounded to TF32 (11 bits), as tensor cores want.
#
#@ dtype  all=float32
#@ products tf32
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import gelu_forward
from ported.device.products import gelu_linear_forward

vendor = Matmuls("gelu_linear_forward", gelu_linear_forward, compute="tf32", before=[gelu_forward])
plan, candidates = vendor.plan, vendor.candidates
