// Goto's product: weight^T is packed into panels that stay in the second cache, inp is read where
// it lies, a tile of 8 x 48 sums stays in registers. The bias is added in a pass of its own.
// Against 03: every load of a tile is of a packed panel, in order, from a near cache.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void linear_forward(float* out, float* work, const float* inp, const float* weight,
                    const float* bias, int N, int C, int O, int threads) {
    Target product = {.at = out, .row = O};
    Matrix x = {inp, C, 1}, w = {weight, 1, C};  // w[c, o] = weight[o, c]
#pragma omp parallel num_threads(threads)
    {
        gemm(&product, x, w, N, O, C, threads, work);
#pragma omp barrier
#pragma omp for
        for (int64_t n = 0; n < N; n++) {
            for (int64_t o = 0; o < O; o++) {
                out[n * O + o] += bias[o];
            }
        }
    }
}
