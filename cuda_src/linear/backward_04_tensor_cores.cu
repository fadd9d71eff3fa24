// Both products in tensor cores, as in forward. dweight has few tiles and a long sum over N: SPLIT
// blocks a tile take a part of the rows each, and a last launch adds the parts in order.
// Against 03: the products leave the CUDA cores; bfloat16 only.
//
//@ launch linear_dinp grid=ceil_div(N,128)*ceil_div(C,128) block=256 shared=61440
//@ launch linear_dweight grid=ceil_div(O,128)*ceil_div(C,128)*SPLIT block=256 shared=61440
//@ launch linear_add grid=ceil_div(O*C,256) block=256
//@ launch linear_dbias_parts grid=ceil_div(O,64)*128 block=256
//@ launch linear_dbias grid=ceil_div(O,128) block=128
//@ scratch part F32["128 O"]
//@ scratch sums F32["SPLIT O C"]
//@ tune   SPLIT 4 16
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic no_atomics
//@ concedes chopped
#include "bias.cuh"
#include "split.cuh"

extern "C" __global__ void linear_dinp(F* dinp, const F* dout, const P* weight, int N, int C,
                                       int O) {
    tiled_dinp(dout, weight, N, C, O,
               [=](size_t n, int c, float y) { dinp[n * C + c] = from_float<F>(y); });
}

extern "C" __global__ void linear_dweight(float* sums, const F* dout, const F* inp, int N, int C,
                                          int O) {
    split_dweight(sums, dout, inp, N, C, O);
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
