// The products of linear's backward on product_wide.cuh, for linear and what is fused with it.
#pragma once
#include "../product_wide.cuh"
#include "sums.cuh"

// Y = dout @ weight, [N, C]; `store` as product_wide's.
template <class Store>
__device__ __forceinline__ void wide_dinp(const F* dout, const P* weight, int N, int C, int O,
                                          Store store) {
    int2 at = wide_place(blockIdx.x, (N + WIDE_M - 1) / WIDE_M, (C + WIDE_N - 1) / WIDE_N);
    product_wide<true, false>(dout, weight, N, C, O, at.x, at.y, 0, (O + 31) / 32, store);
}

// Part `blockIdx.x / tiles` of `split` of dout^T @ inp, [O, C], into sums [split, O, C]: each part
// sums its share of the N rows.
__device__ __forceinline__ void wide_dweight(float* sums, const F* dout, const F* inp, int N,
                                             int C, int O, int split) {
    int tiles_o = (O + WIDE_M - 1) / WIDE_M, tiles_c = (C + WIDE_N - 1) / WIDE_N;
    int part = blockIdx.x / (tiles_o * tiles_c), stages = (N + 31) / 32;
    int each = (stages + split - 1) / split;
    int2 at = wide_place(blockIdx.x % (tiles_o * tiles_c), tiles_o, tiles_c);
    bool pairs = wide_pairs(sums, C);
    auto store = [=](size_t o, int c, float y, float z) {
        wide_put(sums + ((size_t)part * O + o) * C + c, pairs, c + 1 < C, y, z);
    };
    product_wide<false, false>(dout, inp, O, C, N, at.x, at.y, min(part * each, stages),
                               min((part + 1) * each, stages), store);
}
