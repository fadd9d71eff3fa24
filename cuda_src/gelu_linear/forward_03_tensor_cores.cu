// First GELU, then the product in tensor cores, as linear_forward_04.
// Against 02: the products leave the CUDA cores; bfloat16 only.
//
//@ launch gelu_linear_act grid=ceil_div(N*C,256) block=256
//@ launch gelu_linear_out grid=ceil_div(N,128)*ceil_div(O,128) block=256 shared=61440
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gelu/gelu.cuh"
#include "../product_mma.cuh"

extern "C" __global__ void gelu_linear_act(F* act, const F* pre, int N, int C) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < (size_t)N * C) act[i] = from_float<F>(by_tanh(to_float(pre[i])));
}

extern "C" __global__ void gelu_linear_out(F* out, F* act, const P* weight, const P* bias,
                                           int N, int C, int O) {
    int across = (O + 127) / 128;
    auto store = [=](size_t n, int o, float y) {
        out[n * O + o] = from_float<F>(y + to_float(bias[o]));
    };
    product_mma<true, true>(act, weight, N, O, C, blockIdx.x / across * 128,
                            blockIdx.x % across * 128, 0, (C + 31) / 32, store);
}
