// The gradients of linear's parameters on tensor cores (product_mma.cuh), for linear and what is
// fused with it. dweight has few tiles and a long sum over the N rows: SPLIT blocks a tile take a
// part of the rows each, and another launch adds the parts in order (sums.cuh): nothing is atomic.
#pragma once
#include "../product_mma.cuh"
#include "sums.cuh"

// Y = dout @ weight, [N, C]: block `blockIdx.x` makes one tile of it; `store(n, c, y)`.
template <class Store>
__device__ inline void tiled_dinp(const F* dout, const P* weight, int N, int C, int O,
                                  Store store) {
    int across = (C + 127) / 128;
    product_mma<true, false>(dout, weight, N, C, O, blockIdx.x / across * 128,
                             blockIdx.x % across * 128, 0, (O + 31) / 32, store);
}

// A part of one tile of dout^T @ inp, [O, C], into sums [SPLIT, O, C].
__device__ inline void split_dweight(float* sums, const F* dout, const F* inp, int N, int C,
                                     int O) {
    int across = (C + 127) / 128, tile = blockIdx.x / SPLIT, part = blockIdx.x % SPLIT;
    int stages = (N + 31) / 32, each = (stages + SPLIT - 1) / SPLIT;
    auto store = [=](size_t o, int c, float y) { sums[((size_t)part * O + o) * C + c] = y; };
    product_mma<false, false>(dout, inp, O, C, N, tile / across * 128, tile % across * 128,
                              min(part * each, stages), min((part + 1) * each, stages), store);
}
