// dpre = (dout weight) * gelu'(pre): the factor is applied to a tile before it leaves the
// registers.
// Against 02: one pass over dpre less, and no waiting for it.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void gelu_linear_backward(float* dpre, float* dweight, float* dbias, float* work,
                          const float* dout, const float* pre, const float* act,
                          const float* weight, int N, int C, int O, int threads) {
    Target dx = {.at = dpre, .row = C, .slope = pre};
    Target dw = {.at = dweight, .row = C, .add = 1, .row_sum = dbias};
    Matrix dy = {dout, O, 1}, dy_t = {dout, 1, O}, w = {weight, C, 1}, x = {act, C, 1};
#pragma omp parallel num_threads(threads)
    {
        gemm(&dx, dy, w, N, C, O, threads, work);
        gemm(&dw, dy_t, x, O, C, N, threads, work);
    }
}
