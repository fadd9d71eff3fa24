// act = gelu(pre), a vector at a time, then the product over packed panels, bias added to the tile.
// Against 01: threads, vectors, register tiles.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void gelu_linear_forward(float* act, float* out, float* work, const float* pre,
                         const float* weight, const float* bias, int N, int C, int O,
                         int threads) {
    Target product = {.at = out, .row = O, .bias = bias};
    Matrix x = {act, C, 1}, w = {weight, 1, C};  // w[c, o] = weight[o, c]
    int64_t size = (int64_t)N * C;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for
        for (int64_t i = 0; i < size; i += LANES) {
            store(act + i, gelu_of(load(pre + i, size - i)), size - i);
        }
        gemm(&product, x, w, N, O, C, threads, work);
    }
}
