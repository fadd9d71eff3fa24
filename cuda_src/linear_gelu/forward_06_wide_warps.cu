// 64 x 64 of the output a warp, as linear_forward_07; bias and GELU where the sums stand.
// Against 03: fewer bytes of shared memory a multiplication.
//
//@ launch linear_gelu_forward grid=ceil_div(N,128)*ceil_div(O,block) block=block shared=(128+block)*320
//@ block  128 256
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gelu/gelu.cuh"
#include "../product_wide.cuh"

extern "C" __global__ void __launch_bounds__(block)
    linear_gelu_forward(F* pre, F* out, const F* inp, const P* weight, const P* bias, int N, int C,
                        int O) {
    int2 at = wide_place(blockIdx.x, (N + WIDE_M - 1) / WIDE_M, (O + WIDE_N - 1) / WIDE_N);
    bool pre_pairs = wide_pairs(pre, O), out_pairs = wide_pairs(out, O);
    auto store = [=](size_t n, int o, float y, float z) {
        bool both = o + 1 < O;
        y += to_float(bias[o]);
        if (both) z += to_float(bias[o + 1]);
        wide_put(pre + n * O + o, pre_pairs, both, y, z);
        wide_put(out + n * O + o, out_pairs, both, by_tanh(y), by_tanh(z));
    };
    product_wide<true, true>(inp, weight, N, O, C, at.x, at.y, 0, (C + 31) / 32, store);
}
