# The GELU's slope into scratch, then the vendor's two products as TF32.
# Against the version before: factors are rounded to TF32 (11 bits), as tensor cores want.
#
#@ dtype  all=float32
#@ products tf32
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import bias_gradient, gelu_backward
from ported.device.products import linear_gelu_backward

vendor = Matmuls("linear_gelu_backward", linear_gelu_backward, compute="tf32",
                 before=[gelu_backward], after=[bias_gradient("dpre")])
plan, candidates = vendor.plan, vendor.candidates
