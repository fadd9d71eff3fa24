// First the gradient before GELU, into scratch; then linear_backward_03 on it.
// Against 01: a number that is read serves eight products and more.
//
//@ launch linear_gelu_dpre grid=ceil_div(N*O,256) block=256
//@ launch linear_dinp grid=ceil_div(N,128)*ceil_div(C,128) block=256
//@ launch linear_dweight grid=ceil_div(O,128)*ceil_div(C,128) block=256
//@ launch linear_dbias_parts grid=ceil_div(O,64)*128 block=256
//@ launch linear_dbias grid=ceil_div(O,128) block=128
//@ scratch part F32["128 O"]
//@ scratch dpre F32["N O"]
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic no_atomics
#include "gelu/gelu.cuh"
#include "../linear/bias.cuh"
#include "../product.cuh"

extern "C" __global__ void linear_gelu_dpre(float* dpre, const F* dout, const F* pre, int N,
                                            int O) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < (size_t)N * O) dpre[i] = to_float(dout[i]) * slope_by_tanh(to_float(pre[i]));
}

extern "C" __global__ void linear_dinp(F* dinp, const float* dpre, const P* weight, int N, int C,
                                       int O) {
    auto a = [=](size_t n, int o) { return dpre[n * O + o]; };
    auto b = [=](int c, size_t o) { return to_float(weight[o * C + c]); };
    auto store = [=](size_t n, int c, float y) { dinp[n * C + c] = from_float<F>(y); };
    product_registers<true, false>(N, C, O, a, b, store);
}

extern "C" __global__ void linear_dweight(G* dweight, const float* dpre, const F* inp, int N, int C,
                                          int O) {
    auto a = [=](int o, size_t n) { return dpre[n * O + o]; };
    auto b = [=](int c, size_t n) { return to_float(inp[n * C + c]); };
    auto store = [=](size_t o, int c, float y) { dweight[o * C + c] += y; };
    product_registers<false, false>(O, C, N, a, b, store);
}

extern "C" __global__ void linear_dbias_parts(float* part, const float* dpre, int N, int O) {
    bias_parts(part, dpre, N, O);
}

extern "C" __global__ void linear_dbias(G* dbias, const float* part, int O) {
    bias_finish(dbias, part, O);
}
