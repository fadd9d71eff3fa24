// Both products with 8 x 8 outputs a thread in registers; GELU's slope where the sums stand.
// Against 01: a number that is read serves eight products and more.
//
//@ launch gelu_linear_dpre grid=ceil_div(N,128)*ceil_div(C,128) block=256
//@ launch gelu_linear_dweight grid=ceil_div(O,128)*ceil_div(C,128) block=256
//@ launch linear_dbias_parts grid=ceil_div(O,64)*128 block=256
//@ launch linear_dbias grid=ceil_div(O,128) block=128
//@ scratch part F32["128 O"]
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic no_atomics
#include "gelu/gelu.cuh"
#include "../linear/bias.cuh"
#include "../product.cuh"

extern "C" __global__ void gelu_linear_dpre(F* dpre, const F* dout, const F* pre, const P* weight,
                                            int N, int C, int O) {
    auto a = [=](size_t n, int o) { return to_float(dout[n * O + o]); };
    auto b = [=](int c, size_t o) { return to_float(weight[o * C + c]); };
    auto store = [=](size_t n, int c, float y) {
        dpre[n * C + c] = from_float<F>(y * slope_by_tanh(to_float(pre[n * C + c])));
    };
    product_registers<true, false>(N, C, O, a, b, store);
}

extern "C" __global__ void gelu_linear_dweight(G* dweight, const F* dout, const F* act, int N,
                                               int C, int O) {
    auto a = [=](int o, size_t n) { return to_float(dout[n * O + o]); };
    auto b = [=](int c, size_t n) { return to_float(act[n * C + c]); };
    auto store = [=](size_t o, int c, float y) { dweight[o * C + c] += y; };
    product_registers<false, false>(O, C, N, a, b, store);
}

extern "C" __global__ void linear_dbias_parts(float* part, const F* dout, int N, int O) {
    bias_parts(part, dout, N, O);
}

extern "C" __global__ void linear_dbias(G* dbias, const float* part, int O) {
    bias_finish(dbias, part, O);
}
