// The packed product, and the bias is added to a tile before it leaves the registers.
// Against 04: one pass over out less.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void linear_forward(float* out, float* work, const float* inp, const float* weight,
                    const float* bias, int N, int C, int O, int threads) {
    Target product = {.at = out, .row = O, .bias = bias};
    Matrix x = {inp, C, 1}, w = {weight, 1, C};  // w[c, o] = weight[o, c]
#pragma omp parallel num_threads(threads)
    gemm(&product, x, w, N, O, C, threads, work);
}
