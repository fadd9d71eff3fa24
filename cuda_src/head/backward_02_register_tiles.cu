// Both products with 8 x 8 outputs a thread in registers.
// Against 01: a number that is read serves eight products and more.
//
//@ launch head_dinp grid=ceil_div(N,128)*ceil_div(C,128) block=256
//@ launch head_dweight grid=ceil_div(Vp,128)*ceil_div(C,128) block=256
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic no_atomics
#include "../product.cuh"

extern "C" __global__ void head_dinp(F* dinp, const F* dlogits, const P* weight, int N, int C,
                                     int Vp) {
    auto a = [=](size_t n, int v) { return to_float(dlogits[n * Vp + v]); };
    auto b = [=](int c, size_t v) { return to_float(weight[v * C + c]); };
    auto store = [=](size_t n, int c, float y) { dinp[n * C + c] = from_float<F>(y); };
    product_registers<true, false>(N, C, Vp, a, b, store);
}

extern "C" __global__ void head_dweight(G* dweight, const F* dlogits, const F* inp, int N, int C,
                                        int Vp) {
    auto a = [=](int v, size_t n) { return to_float(dlogits[n * Vp + v]); };
    auto b = [=](int c, size_t n) { return to_float(inp[n * C + c]); };
    auto store = [=](size_t v, int c, float y) { dweight[v * C + c] += y; };
    product_registers<false, false>(Vp, C, N, a, b, store);
}
