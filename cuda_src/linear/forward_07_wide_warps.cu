// 64 x 64 of the output a warp instead of 64 x 32, fragments read one step ahead, tiles visited in
// groups: product_wide.cuh says why. Two neighbours are stored at once.
// Against 04: fewer bytes of shared memory a multiplication.
//
//@ launch linear_forward grid=ceil_div(N,128)*ceil_div(O,block) block=block shared=(128+block)*320
//@ block  128 256
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "product_wide.cuh"

extern "C" __global__ void __launch_bounds__(block) linear_forward(F* out, const F* inp,
                                                                   const P* weight, const P* bias,
                                                                   int N, int C, int O) {
    int2 at = wide_place(blockIdx.x, (N + WIDE_M - 1) / WIDE_M, (O + WIDE_N - 1) / WIDE_N);
    bool pairs = wide_pairs(out, O);
    auto store = [=](size_t n, int o, float y, float z) {
        bool both = o + 1 < O;
        y += to_float(bias[o]);
        if (both) z += to_float(bias[o + 1]);
        wide_put(out + n * O + o, pairs, both, y, z);
    };
    product_wide<true, true>(inp, weight, N, O, C, at.x, at.y, 0, (C + 31) / 32, store);
}
