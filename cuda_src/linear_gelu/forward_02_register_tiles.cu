// 8 x 8 outputs a thread in registers; bias and GELU where the sums stand.
// Against 01: a number that is read serves eight products and more.
//
//@ launch linear_gelu_forward grid=ceil_div(N,128)*ceil_div(O,128) block=256
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gelu/gelu.cuh"
#include "../product.cuh"

extern "C" __global__ void linear_gelu_forward(F* pre, F* out, const F* inp, const P* weight,
                                               const P* bias, int N, int C, int O) {
    auto a = [=](size_t n, int c) { return to_float(inp[n * C + c]); };
    auto b = [=](size_t o, int c) { return to_float(weight[o * C + c]); };
    auto store = [=](size_t n, int o, float y) {
        y += to_float(bias[o]);
        pre[n * O + o] = from_float<F>(y);
        out[n * O + o] = from_float<F>(by_tanh(y));
    };
    product_registers<true, true>(N, O, C, a, b, store);
}
