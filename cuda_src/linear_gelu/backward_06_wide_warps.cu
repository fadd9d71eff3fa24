// The gradient before GELU into scratch, rounded as gelu_backward would leave it; then the products
// of linear_backward_08 on it.
// Against 03: fewer bytes of shared memory a multiplication.
//
//@ launch linear_gelu_dpre   grid=ceil_div(N*O,256) block=256
//@ launch linear_dinp        grid=ceil_div(N,128)*ceil_div(C,block) block=block shared=(128+block)*320
//@ launch linear_dweight     grid=ceil_div(O,128)*ceil_div(C,block)*SPLIT block=block shared=(128+block)*320
//@ launch linear_add         grid=ceil_div(O*C,256) block=256
//@ launch linear_dbias_parts grid=ceil_div(O,64)*128 block=256
//@ launch linear_dbias       grid=ceil_div(O,128) block=128
//@ block   128 256
//@ tune    SPLIT 16 4
//@ scratch dpre F["N O"]
//@ scratch part F32["128 O"]
//@ scratch sums F32["SPLIT O C"]
//@ dtype   F=bfloat16 P=bfloat16
//@ claims  deterministic no_atomics
//@ concedes chopped
#include "gelu/gelu.cuh"
#include "../linear/bias.cuh"
#include "../linear/wide.cuh"

extern "C" __global__ void linear_gelu_dpre(F* dpre, const F* dout, const F* pre, int N, int O) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < (size_t)N * O)
        dpre[i] = from_float<F>(to_float(dout[i]) * slope_by_tanh(to_float(pre[i])));
}

extern "C" __global__ void __launch_bounds__(block) linear_dinp(F* dinp, const F* dpre,
                                                                const P* weight, int N, int C,
                                                                int O) {
    bool pairs = wide_pairs(dinp, C);
    wide_dinp(dpre, weight, N, C, O, [=](size_t n, int c, float y, float z) {
        wide_put(dinp + n * C + c, pairs, c + 1 < C, y, z);
    });
}

extern "C" __global__ void __launch_bounds__(block) linear_dweight(float* sums, const F* dpre,
                                                                   const F* inp, int N, int C,
                                                                   int O) {
    wide_dweight(sums, dpre, inp, N, C, O, SPLIT);
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
