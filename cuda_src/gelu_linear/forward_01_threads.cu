// GELU an element, then the product, a thread an output element. Between the two the GELU stands
// in float32, so that in bfloat16 the product does not see its rounding.
//
//@ launch gelu_linear_act grid=ceil_div(N*C,block) block=block
//@ launch gelu_linear_out grid=ceil_div(N*O,block) block=block
//@ block   256
//@ scratch exact F32["N C"]
//@ dtype   all=float32 | F=bfloat16 P=bfloat16
//@ claims  deterministic batch_invariant no_atomics
#include "gelu/gelu.cuh"

extern "C" __global__ void gelu_linear_act(F* act, float* exact, const F* pre, int N, int C) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)N * C) return;
    exact[i] = by_tanh(to_float(pre[i]));
    act[i] = from_float<F>(exact[i]);
}

extern "C" __global__ void gelu_linear_out(F* out, const float* exact, const P* weight,
                                           const P* bias, int N, int C, int O) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x;
    if (i >= (size_t)N * O) return;
    size_t n = i / O, o = i % O;
    float sum = 0.0f;
    for (int c = 0; c < C; c++) sum += exact[n * C + c] * to_float(weight[o * C + c]);
    out[i] = from_float<F>(sum + to_float(bias[o]));
}
