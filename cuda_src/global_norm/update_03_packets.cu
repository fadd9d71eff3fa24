// 16 bytes at a time, and FOURS packets of a thread on their way before the first is used.
// Against 02: fewer instructions, more bytes in flight; as many blocks as the GPU holds at once.
//
//@ block   256 512
//@ tune    FOURS 4 8
//@ launch  norm_parts grid=multiprocessors*(1024/block) block=block
//@ launch  global_norm_update grid=1 block=block
//@ scratch part F32["multiprocessors*(1024/block)"]
//@ dtype   all=float32
//@ claims  deterministic no_atomics
#include "norm.cuh"

extern "C" __global__ void __launch_bounds__(block, 1024 / block)
norm_parts(float* part, const G* dweight, int S, int E) {
    int64_t first = ((int64_t)blockIdx.x * block + threadIdx.x) * 4, count = (int64_t)S * E;
    int64_t stride = (int64_t)gridDim.x * block * 4;
    double sum = is_aligned(dweight) ? squares<true, FOURS>(dweight, first, stride, count)
                                     : squares<false, FOURS>(dweight, first, stride, count);
    sum = block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sqrt(sum);
}

extern "C" __global__ void global_norm_update(float* norm, float* scale, const float* part,
                                              int multiprocessors, double max_norm) {
    double length = norm_of(part, multiprocessors * (1024 / block));
    if (threadIdx.x == 0) finish(norm, scale, length, max_norm);
}
