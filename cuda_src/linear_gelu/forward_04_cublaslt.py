# The vendor's product: cuBLASLt adds the bias, stores pre, and stores its GELU, all at once.
#
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.products import linear_gelu_forward

vendor = Matmuls("linear_gelu_forward", linear_gelu_forward)
plan, candidates = vendor.plan, vendor.candidates
