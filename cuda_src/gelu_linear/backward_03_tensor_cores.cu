// Both products in tensor cores, as linear_backward_04; GELU's slope where the sums stand.
// Against 02: the products leave the CUDA cores; bfloat16 only.
//
//@ launch gelu_linear_dpre grid=ceil_div(N,128)*ceil_div(C,128) block=256 shared=61440
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
#include "gelu/gelu.cuh"
#include "../linear/bias.cuh"
#include "../linear/split.cuh"

extern "C" __global__ void gelu_linear_dpre(F* dpre, const F* dout, const F* pre, const P* weight,
                                            int N, int C, int O) {
    tiled_dinp(dout, weight, N, C, O, [=](size_t n, int c, float y) {
        dpre[n * C + c] = from_float<F>(y * slope_by_tanh(to_float(pre[n * C + c])));
    });
}

extern "C" __global__ void linear_dweight(float* sums, const F* dout, const F* act, int N, int C,
                                          int O) {
    split_dweight(sums, dout, act, N, C, O);
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
