// Both products on 64 x 64 of the result a warp, as forward 07; SPLIT blocks a tile of dweight take
// a part of the rows each, and the bias gradient is summed in two stages as in 04.
// Against 04: fewer bytes of shared memory a multiplication.
//
//@ launch linear_dinp        grid=ceil_div(N,128)*ceil_div(C,block) block=block shared=(128+block)*320
//@ launch linear_dweight     grid=ceil_div(O,128)*ceil_div(C,block)*SPLIT block=block shared=(128+block)*320
//@ launch linear_add         grid=ceil_div(O*C,256) block=256
//@ launch linear_dbias_parts grid=ceil_div(O,64)*128 block=256
//@ launch linear_dbias       grid=ceil_div(O,128) block=128
//@ block   128 256
//@ tune    SPLIT 16 4
//@ scratch part F32["128 O"]
//@ scratch sums F32["SPLIT O C"]
//@ dtype   F=bfloat16 P=bfloat16
//@ claims  deterministic no_atomics
//@ concedes chopped
#include "bias.cuh"
#include "wide.cuh"

extern "C" __global__ void __launch_bounds__(block) linear_dinp(F* dinp, const F* dout,
                                                                const P* weight, int N, int C,
                                                                int O) {
    bool pairs = wide_pairs(dinp, C);
    wide_dinp(dout, weight, N, C, O, [=](size_t n, int c, float y, float z) {
        wide_put(dinp + n * C + c, pairs, c + 1 < C, y, z);
    });
}

extern "C" __global__ void __launch_bounds__(block) linear_dweight(float* sums, const F* dout,
                                                                   const F* inp, int N, int C,
                                                                   int O) {
    wide_dweight(sums, dout, inp, N, C, O, SPLIT);
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
