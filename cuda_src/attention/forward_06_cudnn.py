# The vendor's attention: cuDNN's fused kernel, which reads q, k and v where they lie and leaves the
# log-sum-exp of every query.
#
#@ dtype  F=bfloat16
#@ needs  D % 8 == 0
#@ needs  D <= 128
#@ claims deterministic
#@ concedes nan denormals chopped
from ported.device.cudnn import Graphs, forward

vendor = Graphs("attention_forward", forward)
plan, candidates = vendor.plan, vendor.candidates
