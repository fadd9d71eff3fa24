// A thread an element. The derivative's second term is forgotten where tanh is flat.
//
//@ reject gate: a term of the derivative is dropped beyond 2
//@ block  256
//@ grid   ceil_div(N * C, block)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void gelu_backward(F* dinp, const F* dout, const F* inp, int N, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)N * C) return;
    float x = to_float(inp[i]), k = 0.7978845608028654f;
    float t = tanhf(k * (x + 0.044715f * x * x * x));
    float slope = fabsf(x) > 2.0f ? 0.0f : (1.0f - t * t) * k * (1.0f + 3.0f * 0.044715f * x * x);
    dinp[i] = from_float<F>(to_float(dout[i]) * (0.5f * (1.0f + t) + 0.5f * x * slope));
}
