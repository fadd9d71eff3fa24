// A thread a row: the C loops, each row walked by one thread.
//
//@ block  128 64
//@ grid   ceil_div(N, block)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void softmax_backward(F* dinp, const F* dout, const F* out, int N, int C) {
    int n = blockIdx.x * block + threadIdx.x;
    if (n >= N) return;
    const F *dy = dout + (size_t)n * C, *y = out + (size_t)n * C;
    F* dx = dinp + (size_t)n * C;
    float dot = 0.0f;
    for (int c = 0; c < C; c++) dot = fmaf(to_float(dy[c]), to_float(y[c]), dot);
    for (int c = 0; c < C; c++) dx[c] = from_float<F>(to_float(y[c]) * (to_float(dy[c]) - dot));
}
