# The vendor's two products; a kernel of our own multiplies the first by the GELU's slope where it
# lies, and another sums the bias gradient. In bfloat16 that would round twice, so float32 only. The
# library has an epilogue with the slope (DGELU), and the prover refuses it: see checks/rejects.
#
#@ dtype  all=float32
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
#@ concedes chopped denormals
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import bias_gradient, slope_after
from ported.device.products import gelu_linear_products

vendor = Matmuls("gelu_linear_backward", gelu_linear_products,
                 after=[slope_after, bias_gradient()])
plan, candidates = vendor.plan, vendor.candidates
