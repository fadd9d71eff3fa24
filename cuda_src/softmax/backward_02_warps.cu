// A warp a row. Against 01: memory is read in whole lines, and lanes share a row's sum.
//
//@ block  256 128
//@ grid   ceil_div(N, block / 32)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void softmax_backward(F* dinp, const F* dout, const F* out, int N, int C) {
    int n = blockIdx.x * (block / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (n >= N) return;
    const F *dy = dout + (size_t)n * C, *y = out + (size_t)n * C;
    F* dx = dinp + (size_t)n * C;
    float dot = 0.0f;
    for (int c = lane; c < C; c += 32) dot = fmaf(to_float(dy[c]), to_float(y[c]), dot);
    dot = warp_sum(dot);
    for (int c = lane; c < C; c += 32) {
        dx[c] = from_float<F>(to_float(y[c]) * (to_float(dy[c]) - dot));
    }
}
