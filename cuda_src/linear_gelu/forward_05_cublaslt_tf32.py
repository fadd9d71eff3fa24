# As the version before, the product as TF32.
# Against the version before: factors are rounded to TF32 (11 bits), as tensor cores want.
#
#@ dtype  all=float32
#@ products tf32
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import gelu_after
from ported.device.products import linear_then_gelu

vendor = Matmuls("linear_gelu_forward", linear_then_gelu, compute="tf32", after=[gelu_after])
plan, candidates = vendor.plan, vendor.candidates
