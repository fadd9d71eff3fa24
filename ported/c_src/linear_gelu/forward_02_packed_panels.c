// The product over packed panels with its bias, then gelu in a pass of its own, a vector at a time.
// Against 01: threads, vectors, register tiles.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void linear_gelu_forward(float* pre, float* out, float* work, const float* inp,
                         const float* weight, const float* bias, int N, int C, int O,
                         int threads) {
    Target product = {.at = pre, .row = O, .bias = bias};
    Matrix x = {inp, C, 1}, w = {weight, 1, C};  // w[c, o] = weight[o, c]
    int64_t size = (int64_t)N * O;
#pragma omp parallel num_threads(threads)
    {
        gemm(&product, x, w, N, O, C, threads, work);
#pragma omp barrier
#pragma omp for
        for (int64_t i = 0; i < size; i += LANES) {
            store(out + i, gelu_of(load(pre + i, size - i)), size - i);
        }
    }
}
