# As 04, the vendor's two products as TF32.
# Against the versions before: factors are rounded to TF32 (11 bits), as tensor cores want.
#
#@ dtype  all=float32
#@ products tf32
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import bias_gradient, slope_after
from ported.device.products import gelu_linear_products

vendor = Matmuls("gelu_linear_backward", gelu_linear_products, compute="tf32",
                 after=[slope_after, bias_gradient()])
plan, candidates = vendor.plan, vendor.candidates
