# The vendor's fused product as TF32.
# Against the version before: factors are rounded to TF32 (11 bits), as tensor cores want.
#
#@ dtype  all=float32
#@ products tf32
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.products import linear_gelu_forward

vendor = Matmuls("linear_gelu_forward", linear_gelu_forward, compute="tf32")
plan, candidates = vendor.plan, vendor.candidates
