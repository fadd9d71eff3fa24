// A thread an element. Every thread reads before it looks whether it has an element: a read past
// the end, whose value is dropped.
//
//@ reject sanitizers: the last block reads past the end
//@ block  256
//@ grid   ceil_div(N * C, block)
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    float x = ((const volatile F*)inp)[i];  // a compiler could leave a plain one out
    float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    float y = 0.5f * x * (1.0f + tanhf(inner));
    if (i < (size_t)N * C) out[i] = y;
}
