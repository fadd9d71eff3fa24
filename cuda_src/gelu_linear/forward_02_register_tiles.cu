// First GELU, then the product of what it left, with 8 x 8 outputs a thread in registers.
// Against 01: a number that is read serves eight products and more.
//
//@ launch gelu_linear_act grid=ceil_div(N*C,256) block=256
//@ launch gelu_linear_out grid=ceil_div(N,128)*ceil_div(O,128) block=256
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gelu/gelu.cuh"
#include "../product.cuh"

extern "C" __global__ void gelu_linear_act(F* act, const F* pre, int N, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < (size_t)N * C) act[i] = from_float<F>(by_tanh(to_float(pre[i])));
}

extern "C" __global__ void gelu_linear_out(F* out, F* act, const P* weight, const P* bias,
                                           int N, int C, int O) {
    auto a = [=](size_t n, int c) { return to_float(act[n * C + c]); };
    auto b = [=](size_t o, int c) { return to_float(weight[o * C + c]); };
    auto store = [=](size_t n, int o, float y) {
        out[n * O + o] = from_float<F>(y + to_float(bias[o]));
    };
    product_registers<true, true>(N, O, C, a, b, store);
}
