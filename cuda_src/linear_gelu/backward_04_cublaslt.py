# The GELU's slope by a kernel of our own into scratch, then the vendor's two products: no epilogue
# changes a factor before it is multiplied.
#
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
#@ concedes chopped denormals
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import bias_gradient, gelu_backward
from ported.device.products import linear_gelu_backward

vendor = Matmuls("linear_gelu_backward", linear_gelu_backward, before=[gelu_backward],
                 after=[bias_gradient("dpre")])
plan, candidates = vendor.plan, vendor.candidates
