// Both products by tiles of 16 x 16 in shared memory, as in forward; the bias gradient in slices of
// rows that a second launch adds in order.
// Against 01: 16 times less traffic, and N is no longer walked by one thread.
//
//@ launch linear_dinp grid=ceil_div(N,TILE)*ceil_div(C,TILE) block=TILE*TILE
//@ launch linear_dweight grid=ceil_div(O,TILE)*ceil_div(C,TILE) block=TILE*TILE
//@ launch linear_dbias_parts grid=ceil_div(O,64)*128 block=256
//@ launch linear_dbias grid=ceil_div(O,128) block=128
//@ scratch part F32["128 O"]
//@ tune   TILE 16 32
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic no_atomics
#include "../product.cuh"
#include "bias.cuh"

extern "C" __global__ void linear_dinp(F* dinp, const F* dout, const P* weight, int N, int C,
                                       int O) {
    auto a = [=](size_t n, int o) { return to_float(dout[n * O + o]); };
    auto b = [=](int c, size_t o) { return to_float(weight[o * C + c]); };
    auto store = [=](size_t n, int c, float y) { dinp[n * C + c] = from_float<F>(y); };
    product_shared<TILE, true, false>(N, C, O, a, b, store);
}

extern "C" __global__ void linear_dweight(G* dweight, const F* dout, const F* inp, int N, int C,
                                          int O) {
    auto a = [=](int o, size_t n) { return to_float(dout[n * O + o]); };
    auto b = [=](int c, size_t n) { return to_float(inp[n * C + c]); };
    auto store = [=](size_t o, int c, float y) { dweight[o * C + c] += y; };
    product_shared<TILE, false, false>(O, C, N, a, b, store);
}

extern "C" __global__ void linear_dbias_parts(float* part, const F* dout, int N, int O) {
    bias_parts(part, dout, N, O);
}

extern "C" __global__ void linear_dbias(G* dbias, const float* part, int O) {
    bias_finish(dbias, part, O);
}
