// Threads share out the rows of dinp, then the rows of dweight; each row is gathered 16 channels at
// a time: dinp[n, :] += dlogits[n, v] weight[v, :], and dweight[v, :] from dlogits[n, v] inp[n, :].
// Against 01: threads and vectors; the row of dweight is gathered in a scratch row of the thread's.
//
//@ dtype   all=float32
//@ scratch rows F32["threads C"]
//@ claims  deterministic batch_invariant
#include "common.h"
#include <omp.h>

// row[:] += a * x[:]
INLINE void add_row(float* row, float a, const float* x, int C) {
    for (int c = 0; c < C; c += LANES) {
        store(row + c, load(row + c, C - c) + a * load(x + c, C - c), C - c);
    }
}

void head_backward(float* dinp, float* dweight, float* rows, const float* dlogits,
                     const float* inp, const float* weight, int N, int C, int Vp, int threads) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp for nowait
        for (ptrdiff_t n = 0; n < N; n++) {
            float* dx = dinp + n * C;
            memset(dx, 0, C * sizeof(float));
            for (ptrdiff_t v = 0; v < Vp; v++) {
                add_row(dx, dlogits[n * Vp + v], weight + v * C, C);
            }
        }
        float* row = rows + (ptrdiff_t)omp_get_thread_num() * C;
#pragma omp for
        for (ptrdiff_t v = 0; v < Vp; v++) {
            memset(row, 0, C * sizeof(float));
            for (ptrdiff_t n = 0; n < N; n++) {
                add_row(row, dlogits[n * Vp + v], inp + n * C, C);
            }
            add_row(dweight + v * C, 1.0f, row, C);
        }
    }
}
