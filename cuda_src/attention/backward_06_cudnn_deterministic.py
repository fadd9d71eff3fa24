# The vendor's attention backward, its sums in a fixed order. On Hopper the library then keeps the
# gradient of the scores in memory, 2 B H T^2 bytes.
# Against the version before: the same bits in every run, for time and memory.
#
#@ dtype  F=bfloat16
#@ needs  D % 8 == 0
#@ needs  D <= 128
#@ needs  T > 1
#@ claims deterministic
#@ concedes nan denormals
from functools import partial

from ported.device.cudnn import Graphs, backward

vendor = Graphs("attention_backward", partial(backward, deterministic=True))
plan, candidates = vendor.plan, vendor.candidates
