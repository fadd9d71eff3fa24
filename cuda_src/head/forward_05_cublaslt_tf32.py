# The vendor's product as TF32.
# Against the version before: factors are rounded to TF32 (11 bits), as tensor cores want.
#
#@ dtype  all=float32
#@ products tf32
#@ needs  C % 8 == 0
#@ needs  Vp % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.products import head_forward

vendor = Matmuls("head_forward", head_forward, compute="tf32")
plan, candidates = vendor.plan, vendor.candidates
