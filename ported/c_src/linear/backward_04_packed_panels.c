// dinp = dout weight and dweight += dout^T inp as Goto's products over packed panels, one after the
// other; dbias is summed in a pass of its own.
// Against 03: every load of a tile is of a packed panel, in order, from a near cache.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void linear_backward(float* dinp, float* dweight, float* dbias, float* work, const float* dout,
                     const float* inp, const float* weight, int N, int C, int O, int threads) {
    Target dx = {.at = dinp, .row = C}, dw = {.at = dweight, .row = C, .add = 1};
    Matrix dy = {dout, O, 1}, dy_t = {dout, 1, O}, w = {weight, C, 1}, x = {inp, C, 1};
#pragma omp parallel num_threads(threads)
    {
        gemm(&dx, dy, w, N, C, O, threads, work);
#pragma omp barrier
        gemm(&dw, dy_t, x, O, C, N, threads, work);
#pragma omp barrier
#pragma omp for
        for (int64_t o = 0; o < O; o += LANES) {
            lanes sum = {0};
            for (int64_t n = 0; n < N; n++) {
                sum += load(dout + n * O + o, O - o);
            }
            store(dbias + o, load(dbias + o, O - o) + sum, O - o);
        }
    }
}
