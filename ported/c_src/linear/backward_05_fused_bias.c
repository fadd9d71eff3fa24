// dinp = dout weight and dweight += dout^T inp as packed products in one parallel region: a thread
// that is done with the first begins the second. dbias is summed while dout is packed.
// Against 04: one pass over dout less, and no waiting between the products.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void linear_backward(float* dinp, float* dweight, float* dbias, float* work, const float* dout,
                     const float* inp, const float* weight, int N, int C, int O, int threads) {
    Target dx = {.at = dinp, .row = C};
    Target dw = {.at = dweight, .row = C, .add = 1, .row_sum = dbias};
    Matrix dy = {dout, O, 1}, dy_t = {dout, 1, O}, w = {weight, C, 1}, x = {inp, C, 1};
#pragma omp parallel num_threads(threads)
    {
        gemm(&dx, dy, w, N, C, O, threads, work);
        gemm(&dw, dy_t, x, O, C, N, threads, work);
    }
}
