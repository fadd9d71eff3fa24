# cuBLASLt multiplies the first product by its GELU's slope where it arises (DGELU).
#
#@ reject gate: the library's slope is off by up to 12 of its bounds in float32, 2.2 in bfloat16
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
#@ concedes chopped denormals
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import bias_gradient
from ported.device.products import gelu_linear_backward

vendor = Matmuls("gelu_linear_backward", gelu_linear_backward, after=[bias_gradient()])
plan, candidates = vendor.plan, vendor.candidates
