// Blocks leave their sums and the last one to finish adds them; nothing makes the sums visible
// before the count is.
//
//@ reject sanitizers: other blocks' sums are read without a fence between them and the count
//@ launch global_norm_update grid=4 block=128
//@ dtype  all=float32
//@ scratch part F32["4"]
//@ scratch count I32["1"] zeroed
#include "common.cuh"

extern "C" __global__ void global_norm_update(float* norm, float* scale, float* part, int* count,
                                              const G* dweight, int S, int E, float max_norm) {
    __shared__ float room[32];
    __shared__ bool last;
    float sum = 0.0f;
    size_t size = (size_t)S * E;
    for (size_t i = (size_t)blockIdx.x * 128 + threadIdx.x; i < size; i += 4 * 128)
        sum += dweight[i] * dweight[i];
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) {
        part[blockIdx.x] = sum;
        last = atomicAdd(count, 1) == 3;
    }
    __syncthreads();
    if (!last || threadIdx.x > 0) return;
    float total = sqrtf(part[0] + part[1] + part[2] + part[3]);
    *norm = total;
    float ratio = max_norm / (total + 1e-6f);
    *scale = max_norm == 0.0f || ratio > 1.0f ? 1.0f : ratio;
}
