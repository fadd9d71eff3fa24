// A thread an element; the result is cut off to bfloat16 where it should be rounded.
//
//@ reject gate: truncation instead of rounding to nearest
//@ block  256
//@ grid   ceil_div(N * C, block)
//@ dtype  F=bfloat16
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * C) return;
    float x = to_float(inp[i]);
    float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    float y = 0.5f * x * (1.0f + tanhf(inner));
    out[i] = __float2bfloat16_rz(y);
}
