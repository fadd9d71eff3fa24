# The vendor's two products; dweight is added to where it lies. The bias gradient is a kernel of
# our own, sums in a fixed order.
#
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
#@ concedes chopped denormals
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import bias_gradient
from ported.device.products import linear_backward

vendor = Matmuls("linear_backward", linear_backward, after=[bias_gradient()])
plan, candidates = vendor.plan, vendor.candidates
