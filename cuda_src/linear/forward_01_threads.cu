// A thread an output element: the C loop, its body on the GPU.
//
//@ block  256
//@ grid   ceil_div(N * O, block)
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void linear_forward(F* out, const F* inp, const P* weight, const P* bias,
                                          int N, int C, int O) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)N * O) return;
    size_t n = i / O, o = i % O;
    float sum = 0.0f;
    for (int c = 0; c < C; c++) sum += to_float(inp[n * C + c]) * to_float(weight[o * C + c]);
    out[i] = from_float<F>(sum + to_float(bias[o]));
}
