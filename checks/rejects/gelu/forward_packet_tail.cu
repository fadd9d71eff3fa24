// Four elements a thread; a tail of fewer than four is left out.
//
//@ reject poison: the last one to three elements are never written
//@ block  256
//@ grid   ceil_div(N * C, 4 * block)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C) {
    size_t i = 4 * ((size_t)blockIdx.x * blockDim.x + threadIdx.x);
    if (i + 4 > (size_t)N * C) return;
    for (int k = 0; k < 4; k++) {
        float x = to_float(inp[i + k]);
        float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
        out[i + k] = from_float<F>(0.5f * x * (1.0f + tanhf(inner)));
    }
}
