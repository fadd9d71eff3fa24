// Both products with 8 x 8 outputs a thread in registers, as in forward.
// Against 02: an eighth of the reads from shared memory.
//
//@ launch linear_dinp grid=ceil_div(N,128)*ceil_div(C,128) block=256
//@ launch linear_dweight grid=ceil_div(O,128)*ceil_div(C,128) block=256
//@ launch linear_dbias_parts grid=ceil_div(O,64)*128 block=256
//@ launch linear_dbias grid=ceil_div(O,128) block=128
//@ scratch part F32["128 O"]
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic no_atomics
#include "../product.cuh"
#include "bias.cuh"

extern "C" __global__ void linear_dinp(F* dinp, const F* dout, const P* weight, int N, int C,
                                       int O) {
    auto a = [=](size_t n, int o) { return to_float(dout[n * O + o]); };
    auto b = [=](int c, size_t o) { return to_float(weight[o * C + c]); };
    auto store = [=](size_t n, int c, float y) { dinp[n * C + c] = from_float<F>(y); };
    product_registers<true, false>(N, C, O, a, b, store);
}

extern "C" __global__ void linear_dweight(G* dweight, const F* dout, const F* inp, int N, int C,
                                          int O) {
    auto a = [=](int o, size_t n) { return to_float(dout[n * O + o]); };
    auto b = [=](int c, size_t n) { return to_float(inp[n * C + c]); };
    auto store = [=](size_t o, int c, float y) { dweight[o * C + c] += y; };
    product_registers<false, false>(O, C, N, a, b, store);
}

extern "C" __global__ void linear_dbias_parts(float* part, const F* dout, int N, int O) {
    bias_parts(part, dout, N, O);
}

extern "C" __global__ void linear_dbias(G* dbias, const float* part, int O) {
    bias_finish(dbias, part, O);
}
