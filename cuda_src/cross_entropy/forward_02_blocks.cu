// A block a row: threads stand at neighbouring columns, maximum and sum are taken over the block.
// Against 01: memory is read in whole lines, and a row has a block's threads to itself.
//
//@ block  256 512 1024
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void cross_entropy_forward(float* losses, float* lse, const F* logits,
                                                 const int* targets, int V, int Vp) {
    __shared__ float room[32];
    const F* row = logits + (size_t)blockIdx.x * Vp;
    float largest = -INFINITY, sum = 0.0f;
    for (int v = threadIdx.x; v < V; v += block) largest = fmaxf(largest, to_float(row[v]));
    largest = block_max(largest, room);
    for (int v = threadIdx.x; v < V; v += block) sum += expf(to_float(row[v]) - largest);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) {
        lse[blockIdx.x] = largest + logf(sum);
        losses[blockIdx.x] = (largest - to_float(row[targets[blockIdx.x]])) + logf(sum);
    }
}
