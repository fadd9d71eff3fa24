# The vendor's two products; the second also sums the rows of dout that it reads anyway (BGRADB).
# Against the version before: dout is read once less.
#
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
#@ concedes chopped denormals
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import bias_add
from ported.device.products import linear_backward, with_bias_gradient

vendor = Matmuls("linear_backward",
                 lambda axes: with_bias_gradient(linear_backward(axes)), after=[bias_add])
plan, candidates = vendor.plan, vendor.candidates
