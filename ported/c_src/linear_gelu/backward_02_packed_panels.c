// dpre = dout * gelu'(pre) goes to scratch, a vector at a time; then linear's backward over packed
// panels, dbias summed while dpre is packed.
// Against 01: threads, vectors, register tiles.
//
//@ dtype   all=float32
//@ scratch dpre F32["N O"]
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void linear_gelu_backward(float* dinp, float* dweight, float* dbias, float* dpre, float* work,
                          const float* dout, const float* pre, const float* inp,
                          const float* weight, int N, int C, int O, int threads) {
    Target dx = {.at = dinp, .row = C};
    Target dw = {.at = dweight, .row = C, .add = 1, .row_sum = dbias};
    Matrix dy = {dpre, O, 1}, dy_t = {dpre, 1, O}, w = {weight, C, 1}, x = {inp, C, 1};
    int64_t size = (int64_t)N * O;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for
        for (int64_t i = 0; i < size; i += LANES) {
            lanes slope = gelu_slope_of(load(pre + i, size - i));
            store(dpre + i, load(dout + i, size - i) * slope, size - i);
        }
        gemm(&dx, dy, w, N, C, O, threads, work);
        gemm(&dw, dy_t, x, O, C, N, threads, work);
    }
}
