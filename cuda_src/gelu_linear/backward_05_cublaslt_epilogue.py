# As the version before, and the second product also sums the rows of dout (BGRADB).
# Against the version before: dout is read once less.
#
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
#@ concedes chopped denormals
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import bias_add
from ported.device.products import gelu_linear_backward, with_bias_gradient

vendor = Matmuls("gelu_linear_backward",
                 lambda axes: with_bias_gradient(gelu_linear_backward(axes)), after=[bias_add])
plan, candidates = vendor.plan, vendor.candidates
