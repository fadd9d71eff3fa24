// Two launches: partial sums, then the norm. max_norm = 0, no clipping, is not known to it.
//
//@ reject gate: scale is 0 where nothing is to be clipped
//@ launch global_norm_update grid=4 block=128
//@ launch finish grid=1 block=32
//@ dtype  all=float32
//@ scratch part F32["4"]
//@ claims deterministic
#include "common.cuh"

extern "C" __global__ void global_norm_update(float* part, const G* dweight, int S, int E) {
    __shared__ float room[32];
    float sum = 0.0f;
    size_t size = (size_t)S * E;
    for (size_t i = (size_t)blockIdx.x * 128 + threadIdx.x; i < size; i += 4 * 128)
        sum += dweight[i] * dweight[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

extern "C" __global__ void finish(float* norm, float* scale, const float* part, float max_norm) {
    if (threadIdx.x > 0) return;
    float total = sqrtf(part[0] + part[1] + part[2] + part[3]);
    *norm = total;
    float ratio = max_norm / (total + 1e-6f);
    *scale = ratio > 1.0f ? 1.0f : ratio;
}
