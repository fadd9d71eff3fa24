# The vendor's product: cuBLASLt, which adds the bias as it stores the result.
#
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.products import linear_forward

vendor = Matmuls("linear_forward", linear_forward)
plan, candidates = vendor.plan, vendor.candidates
