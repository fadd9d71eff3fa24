// A thread an element: squares are summed over a block, blocks add theirs to one number as they
// come, and a second launch takes its root.
//
//@ block   256 128
//@ launch  norm_squares grid=ceil_div(S*E,block) block=block
//@ launch  global_norm_update grid=1 block=1
//@ scratch total F32["1"] zeroed
//@ dtype   all=float32
#include "norm.cuh"

extern "C" __global__ void norm_squares(float* total, const G* dweight, int S, int E) {
    int64_t i = (int64_t)blockIdx.x * block + threadIdx.x;
    double x = i < (int64_t)S * E ? dweight[i] : 0.0f;
    double sum = block_sum(x * x);
    if (threadIdx.x == 0) atomicAdd(total, (float)sum);
}

extern "C" __global__ void global_norm_update(float* norm, float* scale, const float* total,
                                              double max_norm) {
    finish(norm, scale, sqrt((double)*total), max_norm);
}
