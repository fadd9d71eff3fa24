// A thread a logit: the C loop, its body on the GPU.
//
//@ block  256
//@ grid   ceil_div(N * Vp, block)
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void head_forward(F* logits, const F* inp, const P* weight, int N, int C,
                                        int Vp) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)N * Vp) return;
    size_t n = i / Vp, v = i % Vp;
    float sum = 0.0f;
    for (int c = 0; c < C; c++) sum += to_float(inp[n * C + c]) * to_float(weight[v * C + c]);
    logits[i] = from_float<F>(sum);
}
