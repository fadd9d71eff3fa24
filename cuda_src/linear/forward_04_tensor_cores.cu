// Tensor cores: mma.sync on tiles of 128 x 128 that asynchronous copies bring, three deep.
// Against 03: the products leave the CUDA cores; bfloat16 only.
//
//@ launch linear_forward grid=ceil_div(N,128)*ceil_div(O,128) block=256 shared=61440
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "../product_mma.cuh"

extern "C" __global__ void linear_forward(F* out, const F* inp, const P* weight, const P* bias,
                                          int N, int C, int O) {
    int across = (O + 127) / 128;
    auto store = [=](size_t n, int o, float y) {
        out[n * O + o] = from_float<F>(y + to_float(bias[o]));
    };
    product_mma<true, true>(inp, weight, N, O, C, blockIdx.x / across * 128,
                            blockIdx.x % across * 128, 0, (C + 31) / 32, store);
}
