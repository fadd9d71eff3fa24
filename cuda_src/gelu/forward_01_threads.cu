// A thread an element: the C loop, its body on the GPU.
//
//@ block  256 128
//@ grid   ceil_div(N * C, block)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * C) return;
    float x = to_float(inp[i]);
    float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);  // sqrt(2 / pi)
    out[i] = from_float<F>(0.5f * x * (1.0f + tanhf(inner)));
}
