// The packed product; bias and gelu are applied to a tile before it leaves the registers.
// Against 02: one pass over pre and out less.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void linear_gelu_forward(float* pre, float* out, float* work, const float* inp,
                         const float* weight, const float* bias, int N, int C, int O,
                         int threads) {
    Target product = {.at = pre, .row = O, .bias = bias, .gelu = out};
    Matrix x = {inp, C, 1}, w = {weight, 1, C};  // w[c, o] = weight[o, c]
#pragma omp parallel num_threads(threads)
    gemm(&product, x, w, N, O, C, threads, work);
}
