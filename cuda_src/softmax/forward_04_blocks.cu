// A block a row again, for long rows: warps exchange within themselves, then through 32 floats of
// shared memory. Against 02: four barriers instead of one a halving; against 03: a row of
// many columns has a whole block's threads.
//
//@ block  256 512 1024
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void softmax_forward(F* out, const F* inp, int C) {
    __shared__ float room[32];
    const F* x = inp + (size_t)blockIdx.x * C;
    F* y = out + (size_t)blockIdx.x * C;
    float largest = -INFINITY, sum = 0.0f;
    for (int c = threadIdx.x; c < C; c += block) largest = fmaxf(largest, to_float(x[c]));
    largest = block_max(largest, room);
    for (int c = threadIdx.x; c < C; c += block) sum += expf(to_float(x[c]) - largest);
    sum = block_sum(sum, room);
    for (int c = threadIdx.x; c < C; c += block) {
        y[c] = from_float<F>(expf(to_float(x[c]) - largest) / sum);
    }
}
