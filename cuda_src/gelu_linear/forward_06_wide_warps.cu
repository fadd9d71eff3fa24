// GELU an element, then the product of linear_forward_07 on what was stored.
// Against 03: fewer bytes of shared memory a multiplication.
//
//@ launch gelu_linear_act grid=ceil_div(N*C,256) block=256
//@ launch gelu_linear_out grid=ceil_div(N,128)*ceil_div(O,block) block=block shared=(128+block)*320
//@ block  128 256
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gelu/gelu.cuh"
#include "../product_wide.cuh"

extern "C" __global__ void gelu_linear_act(F* act, const F* pre, int N, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < (size_t)N * C) act[i] = from_float<F>(by_tanh(to_float(pre[i])));
}

extern "C" __global__ void __launch_bounds__(block) gelu_linear_out(F* out, F* act,
                                                                    const P* weight,
                                                                    const P* bias, int N, int C,
                                                                    int O) {
    int2 at = wide_place(blockIdx.x, (N + WIDE_M - 1) / WIDE_M, (O + WIDE_N - 1) / WIDE_N);
    bool pairs = wide_pairs(out, O);
    auto store = [=](size_t n, int o, float y, float z) {
        bool both = o + 1 < O;
        y += to_float(bias[o]);
        if (both) z += to_float(bias[o + 1]);
        wide_put(out + n * O + o, pairs, both, y, z);
    };
    product_wide<true, true>(act, weight, N, O, C, at.x, at.y, 0, (C + 31) / 32, store);
}
