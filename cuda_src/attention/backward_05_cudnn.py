# The vendor's attention backward. Blocks of keys add to the gradient of the queries as they come,
# with atomics: fast, and no two runs need give the same bits.
#
#@ dtype  F=bfloat16
#@ needs  D % 8 == 0
#@ needs  D <= 128
#@ needs  T > 1
#@ concedes nan denormals
from functools import partial

from ported.device.cudnn import Graphs, backward

vendor = Graphs("attention_backward", partial(backward, deterministic=False))
plan, candidates = vendor.plan, vendor.candidates
