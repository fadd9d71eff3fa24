# The vendor's two products as TF32, the bias gradient in float32 by a kernel of our own.
# Against the versions before: factors are rounded to TF32 (11 bits), as tensor cores want.
#
#@ dtype  all=float32
#@ products tf32
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import bias_gradient
from ported.device.products import linear_backward

vendor = Matmuls("linear_backward", linear_backward, compute="tf32", after=[bias_gradient()])
plan, candidates = vendor.plan, vendor.candidates
