// A thread a row: the C loops, each row walked by one thread. Neighbouring threads are a whole row
// apart, so that every look at memory is one of its own.
//
//@ block  128 64
//@ grid   ceil_div(N, block)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void softmax_forward(F* out, const F* inp, int N, int C) {
    int n = blockIdx.x * block + threadIdx.x;
    if (n >= N) return;
    const F* x = inp + (size_t)n * C;
    F* y = out + (size_t)n * C;
    float largest = -INFINITY, sum = 0.0f;
    for (int c = 0; c < C; c++) largest = fmaxf(largest, to_float(x[c]));  // NaN: the sum has it
    for (int c = 0; c < C; c++) sum += expf(to_float(x[c]) - largest);
    for (int c = 0; c < C; c++) y[c] = from_float<F>(expf(to_float(x[c]) - largest) / sum);
}
