// 8 x 8 outputs a thread in registers, on tiles of 128 x 128 in shared memory.
// Against 01: a number that is read serves eight products and more.
//
//@ launch head_forward grid=ceil_div(N,128)*ceil_div(Vp,128) block=256
//@ dtype  all=float32 | F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "../product.cuh"

extern "C" __global__ void head_forward(F* logits, const F* inp, const P* weight, int N, int C,
                                        int Vp) {
    auto a = [=](size_t n, int c) { return to_float(inp[n * C + c]); };
    auto b = [=](size_t v, int c) { return to_float(weight[v * C + c]); };
    auto store = [=](size_t n, int v, float y) { logits[n * Vp + v] = from_float<F>(y); };
    product_registers<true, true>(N, Vp, C, a, b, store);
}
