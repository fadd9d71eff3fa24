// Two stages in a fixed order: at most PARTS blocks leave the norms of their parts, one block takes
// theirs together. Against 01: no atomics, the same bits in every run; a thread walks many
// elements.
//
//@ block   256 128
//@ tune    PARTS 1024
//@ launch  norm_parts grid=min(ceil_div(S*E,block),PARTS) block=block
//@ launch  global_norm_update grid=1 block=block
//@ scratch part F32["min(ceil_div(S*E,block),PARTS)"]
//@ dtype   all=float32
//@ claims  deterministic no_atomics
#include "norm.cuh"

extern "C" __global__ void norm_parts(float* part, const G* dweight, int S, int E) {
    int64_t count = (int64_t)S * E, stride = (int64_t)gridDim.x * block;
    double sum = 0.0;
    for (int64_t i = (int64_t)blockIdx.x * block + threadIdx.x; i < count; i += stride) {
        sum = fma((double)dweight[i], (double)dweight[i], sum);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sqrt(sum);
}

extern "C" __global__ void global_norm_update(float* norm, float* scale, const float* part, int S,
                                              int E, double max_norm) {
    int64_t parts = ((int64_t)S * E + block - 1) / block;
    double length = norm_of(part, min(parts, (int64_t)PARTS));
    if (threadIdx.x == 0) finish(norm, scale, length, max_norm);
}
