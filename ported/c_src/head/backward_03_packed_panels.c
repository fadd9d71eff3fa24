// dinp = dlogits weight and dweight += dlogits^T inp as Goto's products over packed panels, in one
// parallel region: a thread that is done with the first begins the second.
// Against 02: a value that is loaded serves 8 or 48 multiplications, from a near cache.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(512*384+64*514+16)"]
//@ claims  deterministic batch_invariant
#include "gemm.h"

void head_backward(float* dinp, float* dweight, float* work, const float* dlogits,
                   const float* inp, const float* weight, int N, int C, int Vp, int threads) {
    Target dx = {.at = dinp, .row = C}, dw = {.at = dweight, .row = C, .add = 1};
    Matrix dy = {dlogits, Vp, 1}, dy_t = {dlogits, 1, Vp}, w = {weight, C, 1}, x = {inp, C, 1};
#pragma omp parallel num_threads(threads)
    {
        gemm(&dx, dy, w, N, C, Vp, threads, work);
        gemm(&dw, dy_t, x, Vp, C, N, threads, work);
    }
}
