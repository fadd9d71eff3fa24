// 64 x 64 of the logits a warp, as linear_forward_07. Tiles are visited in groups of rows: the
// vocabulary's matrix does not fit in the L2, so rows that are at work together share its reading.
// Against 03: fewer bytes of shared memory a multiplication, fewer of the matrix from memory. As 03
// it leaves very long rows to others.
//
//@ launch head_forward grid=ceil_div(N,128)*ceil_div(Vp,block) block=block shared=(128+block)*320
//@ block  128 256
//@ needs  C <= 16384
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "../product_wide.cuh"

extern "C" __global__ void __launch_bounds__(block) head_forward(F* logits, const F* inp,
                                                                 const P* weight, int N, int C,
                                                                 int Vp) {
    int2 at = wide_place(blockIdx.x, (N + WIDE_M - 1) / WIDE_M, (Vp + WIDE_N - 1) / WIDE_N);
    bool pairs = wide_pairs(logits, Vp);
    auto store = [=](size_t n, int v, float y, float z) {
        wide_put(logits + n * Vp + v, pairs, v + 1 < Vp, y, z);
    };
    product_wide<true, true>(inp, weight, N, Vp, C, at.x, at.y, 0, (C + 31) / 32, store);
}
