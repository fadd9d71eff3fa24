// A thread an element with the count of threads, not of elements, as its stride: a grid that is
// too small leaves elements out.
//
//@ reject poison: the grid covers the rows of one tensor of 64 channels
//@ block  256
//@ grid   ceil_div(N * 64, block)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * C) return;
    float x = to_float(inp[i]);
    float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    float y = 0.5f * x * (1.0f + tanhf(inner));
    out[i] = from_float<F>(y);
}
