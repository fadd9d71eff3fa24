// Maximum and sum in one pass: a thread's sum is rescaled whenever it meets a larger number.
// Against 02: the row is read once.
//
//@ block  256 512 1024
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "softmax/row.cuh"

extern "C" __global__ void cross_entropy_forward(float* losses, float* lse, const F* logits,
                                                 const int* targets, int V, int Vp) {
    const F* row = logits + (size_t)blockIdx.x * Vp;
    Online all;
    for (int v = threadIdx.x; v < V; v += block) take(all, to_float(row[v]));
    all = block_joined(all);
    if (threadIdx.x == 0) {
        float rest = all.largest > -INFINITY ? logf(all.sum) : NAN;  // as the definition has it
        lse[blockIdx.x] = all.largest + rest;
        losses[blockIdx.x] = (all.largest - to_float(row[targets[blockIdx.x]])) + rest;
    }
}
