// A block a row: threads stand at neighbouring columns, maximum and sum are taken over the block.
// Against 01: memory is read in whole lines, and a row has a block's threads to itself.
//
//@ block  256 512 1024
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void classifier_forward(float* losses, F* logits, const int* targets,
                                              const float* dscale, int V, int Vp) {
    __shared__ float room[32];
    F* row = logits + (size_t)blockIdx.x * Vp;
    int target = targets[blockIdx.x];
    float at_target = to_float(row[target]), largest = -INFINITY, sum = 0.0f;
    for (int v = threadIdx.x; v < V; v += block) largest = fmaxf(largest, to_float(row[v]));
    largest = block_max(largest, room);
    for (int v = threadIdx.x; v < V; v += block) sum += expf(to_float(row[v]) - largest);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) losses[blockIdx.x] = (largest - at_target) + logf(sum);
    for (int v = threadIdx.x; v < Vp; v += block) {
        float p = v < V ? expf(to_float(row[v]) - largest) / sum : 0.0f;
        row[v] = from_float<F>(v < V ? *dscale * (v == target ? p - 1.0f : p) : 0.0f);
    }
}
