// Tensor cores, as linear_forward_04, without a bias.
// Against 02: the products leave the CUDA cores; bfloat16 only. Tensor cores cut their sums off:
// over 131 101 channels that was half as much again as an honest error.
//
//@ launch head_forward grid=ceil_div(N,128)*ceil_div(Vp,128) block=256 shared=61440
//@ needs  C <= 16384
//@ dtype  F=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "../product_mma.cuh"

extern "C" __global__ void head_forward(F* logits, const F* inp, const P* weight, int N, int C,
                                        int Vp) {
    int across = (Vp + 127) / 128;
    auto store = [=](size_t n, int v, float y) { logits[n * Vp + v] = from_float<F>(y); };
    product_mma<true, true>(inp, weight, N, Vp, C, blockIdx.x / across * 128,
                            blockIdx.x % across * 128, 0, (C + 31) / 32, store);
}
