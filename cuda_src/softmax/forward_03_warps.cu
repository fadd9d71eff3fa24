// A warp a row: lanes exchange maximum and sum through registers.
// Against 02: no shared memory and no barrier; short rows no longer leave most of a block idle.
//
//@ block  256 128
//@ grid   ceil_div(N, block / 32)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void softmax_forward(F* out, const F* inp, int N, int C) {
    int n = blockIdx.x * (block / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (n >= N) return;
    const F* x = inp + (size_t)n * C;
    F* y = out + (size_t)n * C;
    float largest = -INFINITY, sum = 0.0f;
    for (int c = lane; c < C; c += 32) largest = fmaxf(largest, to_float(x[c]));
    largest = warp_max(largest);
    for (int c = lane; c < C; c += 32) sum += expf(to_float(x[c]) - largest);
    sum = warp_sum(sum);
    for (int c = lane; c < C; c += 32) y[c] = from_float<F>(expf(to_float(x[c]) - largest) / sum);
}
