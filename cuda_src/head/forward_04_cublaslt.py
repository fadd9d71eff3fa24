# The vendor's product: cuBLASLt.
#
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  Vp % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.products import head_forward

vendor = Matmuls("head_forward", head_forward)
plan, candidates = vendor.plan, vendor.candidates
