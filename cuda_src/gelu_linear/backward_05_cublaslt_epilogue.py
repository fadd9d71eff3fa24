# As the version before, and the second product also sums the rows of dout (BGRADB).
# Against the version before: dout is read once less.
#
#@ dtype  all=float32
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
#@ concedes chopped denormals
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import bias_add, slope_after
from ported.device.products import gelu_linear_products, with_bias_gradient

vendor = Matmuls("gelu_linear_backward",
                 lambda axes: with_bias_gradient(gelu_linear_products(axes)),
                 after=[slope_after, bias_add])
plan, candidates = vendor.plan, vendor.candidates
