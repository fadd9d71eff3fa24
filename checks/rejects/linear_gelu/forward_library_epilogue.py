# cuBLASLt adds the bias, stores pre, and stores its GELU, all at once (GELU_AUX_BIAS).
#
#@ reject gate: the library's GELU is off by up to 22 of its bounds in float32, 1.2 in bfloat16
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.products import linear_gelu_forward

vendor = Matmuls("linear_gelu_forward", linear_gelu_forward)
plan, candidates = vendor.plan, vendor.candidates
