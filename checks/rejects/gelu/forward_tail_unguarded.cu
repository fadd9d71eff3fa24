// A thread an element, and no look at where the tensor ends.
//
//@ reject guards: the last block writes past the end
//@ block  256
//@ grid   ceil_div(N * C, block)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    float x = to_float(inp[i]);
    float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    float y = 0.5f * x * (1.0f + tanhf(inner));
    out[i] = from_float<F>(y);
}
