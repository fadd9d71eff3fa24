// First the gradient before GELU, into scratch, rounded as gelu_backward would leave it; then
// linear_backward_04 on it.
// Against 02: the products leave the CUDA cores; bfloat16 only.
//
//@ launch linear_gelu_dpre grid=ceil_div(N*O,256) block=256
//@ launch linear_dinp grid=ceil_div(N,128)*ceil_div(C,128) block=256 shared=61440
//@ launch linear_dweight grid=ceil_div(O,128)*ceil_div(C,128)*SPLIT block=256 shared=61440
//@ launch linear_add grid=ceil_div(O*C,256) block=256
//@ launch linear_dbias_parts grid=ceil_div(O,64)*128 block=256
//@ launch linear_dbias grid=ceil_div(O,128) block=128
//@ scratch part F32["128 O"]
//@ scratch dpre F["N O"]
//@ scratch sums F32["SPLIT O C"]
//@ tune   SPLIT 4 16
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic no_atomics
//@ concedes chopped
#include "gelu/gelu.cuh"
#include "../linear/bias.cuh"
#include "../linear/split.cuh"

extern "C" __global__ void linear_gelu_dpre(F* dpre, const F* dout, const F* pre, int N, int O) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < (size_t)N * O)
        dpre[i] = from_float<F>(to_float(dout[i]) * slope_by_tanh(to_float(pre[i])));
}

extern "C" __global__ void linear_dinp(F* dinp, const F* dpre, const P* weight, int N, int C,
                                       int O) {
    tiled_dinp(dpre, weight, N, C, O,
               [=](size_t n, int c, float y) { dinp[n * C + c] = from_float<F>(y); });
}

extern "C" __global__ void linear_dweight(float* sums, const F* dpre, const F* inp, int N, int C,
                                          int O) {
    split_dweight(sums, dpre, inp, N, C, O);
}

extern "C" __global__ void linear_add(G* dweight, const float* sums, int O, int C) {
    add_parts(dweight, sums, O, C, SPLIT);
}

extern "C" __global__ void linear_dbias_parts(float* part, const F* dpre, int N, int O) {
    bias_parts(part, dpre, N, O);
}

extern "C" __global__ void linear_dbias(G* dbias, const float* part, int O) {
    bias_finish(dbias, part, O);
}
