// A thread an output element: linear's plain kernel, with the GELU before the sum is rounded.
//
//@ block  256
//@ grid   ceil_div(N * O, block)
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gelu/gelu.cuh"

extern "C" __global__ void linear_gelu_forward(F* pre, F* out, const F* inp, const P* weight,
                                               const P* bias, int N, int C, int O) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)N * O) return;
    size_t n = i / O, o = i % O;
    float sum = 0.0f;
    for (int c = 0; c < C; c++) sum += to_float(inp[n * C + c]) * to_float(weight[o * C + c]);
    sum += to_float(bias[o]);
    pre[i] = from_float<F>(sum);
    out[i] = from_float<F>(by_tanh(sum));
}
