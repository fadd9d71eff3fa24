// Tensor cores, as linear_forward_04; bias and GELU where the sums stand.
// Against 02: the products leave the CUDA cores; bfloat16 only.
//
//@ launch linear_gelu_forward grid=ceil_div(N,128)*ceil_div(O,128) block=256 shared=61440
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "gelu/gelu.cuh"
#include "../product_mma.cuh"

extern "C" __global__ void linear_gelu_forward(F* pre, F* out, const F* inp, const P* weight,
                                               const P* bias, int N, int C, int O) {
    int across = (O + 127) / 128;
    auto store = [=](size_t n, int o, float y) {
        y += to_float(bias[o]);
        pre[n * O + o] = from_float<F>(y);
        out[n * O + o] = from_float<F>(by_tanh(y));
    };
    product_mma<true, true>(inp, weight, N, O, C, blockIdx.x / across * 128,
                            blockIdx.x % across * 128, 0, (C + 31) / 32, store);
}
