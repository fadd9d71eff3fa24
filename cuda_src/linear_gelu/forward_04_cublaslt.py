# The vendor's product stores pre; the GELU is a kernel of our own that reads it again. The library
# has an epilogue with a GELU (GELU_AUX_BIAS), and the prover refuses it: beside it in
# checks/rejects stands how far it is off.
#
#@ dtype  all=float32 | F=bfloat16 P=bfloat16
#@ needs  C % 8 == 0
#@ needs  O % 8 == 0
#@ claims deterministic
from ported.device.cublaslt import Matmuls
from ported.device.own_parts import gelu_after
from ported.device.products import linear_then_gelu

vendor = Matmuls("linear_gelu_forward", linear_then_gelu, after=[gelu_after])
plan, candidates = vendor.plan, vendor.candidates
