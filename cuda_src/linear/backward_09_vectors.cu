// CUDA cores at their best, as forward 08; SPLIT blocks a tile of dweight take a part of the rows
// each, and the bias gradient is summed in two stages as in 04.
// Against 03: a quarter of the loads, half of the barriers; more blocks than tiles for dweight.
//
//@ launch linear_dinp        grid=ceil_div(N,128)*ceil_div(C,128) block=256
//@ launch linear_dweight     grid=ceil_div(O,128)*ceil_div(C,128)*SPLIT block=256
//@ launch linear_add         grid=ceil_div(O*C,256) block=256
//@ launch linear_dbias_parts grid=ceil_div(O,64)*128 block=256
//@ launch linear_dbias       grid=ceil_div(O,128) block=128
//@ tune    SPLIT 16 4
//@ scratch part F32["128 O"]
//@ scratch sums F32["SPLIT O C"]
//@ dtype   all=float32
//@ claims  deterministic no_atomics
//@ spills  4
#include "bias.cuh"
#include "sums.cuh"
#include "product_vectors.cuh"

extern "C" __global__ void __launch_bounds__(256, 2) linear_dinp(F* dinp, const F* dout,
                                                                 const P* weight, int N, int C,
                                                                 int O) {
    int across = (C + 127) / 128;
    bool packed = vector_packed(dinp, C);
    auto store = [=](size_t n, int c, const float* y) {
        vector_put(dinp + n * C + c, packed, C - c, y);
    };
    product_vectors<true, false>(dout, weight, N, C, O, blockIdx.x / across * 128,
                                 blockIdx.x % across * 128, 0, (O + 15) / 16, store);
}

extern "C" __global__ void __launch_bounds__(256, 2) linear_dweight(float* sums, const F* dout,
                                                                    const F* inp, int N, int C,
                                                                    int O) {
    int across = (C + 127) / 128, tile = blockIdx.x / SPLIT, part = blockIdx.x % SPLIT;
    int tiles = (N + 15) / 16, each = (tiles + SPLIT - 1) / SPLIT;
    bool packed = vector_packed(sums, C);
    auto store = [=](size_t o, int c, const float* y) {
        vector_put(sums + ((size_t)part * O + o) * C + c, packed, C - c, y);
    };
    product_vectors<false, false>(dout, inp, O, C, N, tile / across * 128, tile % across * 128,
                                  min(part * each, tiles), min((part + 1) * each, tiles), store);
}

extern "C" __global__ void linear_add(G* dweight, const float* sums, int O, int C) {
    add_parts(dweight, sums, O, C, SPLIT);
}

extern "C" __global__ void linear_dbias_parts(float* part, const F* dout, int N, int O) {
    bias_parts(part, dout, N, O);
}

extern "C" __global__ void linear_dbias(G* dbias, const float* part, int O) {
    bias_finish(dbias, part, O);
}
