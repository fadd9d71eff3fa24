// The last launch of a weight gradient whose sum over N was divided.
#pragma once
#include "common.cuh"

// dweight [O, C] += the `split` parts of sums [split, O, C], in order; a thread an element.
__device__ inline void add_parts(G* dweight, const float* sums, int O, int C, int split) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, size = (size_t)O * C;
    if (i >= size) return;
    float sum = 0.0f;
    for (int part = 0; part < split; part++) sum += sums[part * size + i];
    dweight[i] += sum;
}
