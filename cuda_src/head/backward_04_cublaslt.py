# The vendor's two products; dweight is added to where it lies.
#
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  Vp % 8 == 0
#@ claims deterministic
#@ concedes chopped denormals
from ported.device.cublaslt import Matmuls
from ported.device.products import head_backward

vendor = Matmuls("head_backward", head_backward)
plan, candidates = vendor.plan, vendor.candidates
