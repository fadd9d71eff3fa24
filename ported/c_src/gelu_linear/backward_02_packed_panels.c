// linear's backward over packed panels, dact gathered where dpre belongs; dpre = dact * gelu'(pre)
// in a pass of its own.
// Against 01: threads, vectors, register tiles.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void gelu_linear_backward(float* dpre, float* dweight, float* dbias, float* work,
                          const float* dout, const float* pre, const float* act,
                          const float* weight, int N, int C, int O, int threads) {
    Target dx = {.at = dpre, .row = C};
    Target dw = {.at = dweight, .row = C, .add = 1, .row_sum = dbias};
    Matrix dy = {dout, O, 1}, dy_t = {dout, 1, O}, w = {weight, C, 1}, x = {act, C, 1};
    int64_t size = (int64_t)N * C;
#pragma omp parallel num_threads(threads)
    {
        gemm(&dx, dy, w, N, C, O, threads, work);
        gemm(&dw, dy_t, x, O, C, N, threads, work);
#pragma omp barrier
#pragma omp for
        for (int64_t i = 0; i < size; i += LANES) {
            lanes slope = gelu_slope_of(load(pre + i, size - i));
            store(dpre + i, load(dpre + i, size - i) * slope, size - i);
        }
    }
}
