// Threads share out the rows of dinp, then the rows of dweight; each row is gathered 16 channels at
// a time: dinp[n, :] += dout[n, o] weight[o, :], and dweight[o, :] from dout[n, o] inp[n, :].
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

void linear_backward(float* dinp, float* dweight, float* dbias, float* rows, const float* dout,
                     const float* inp, const float* weight, int N, int C, int O, int threads) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp for nowait
        for (ptrdiff_t n = 0; n < N; n++) {
            float* dx = dinp + n * C;
            memset(dx, 0, C * sizeof(float));
            for (ptrdiff_t o = 0; o < O; o++) {
                add_row(dx, dout[n * O + o], weight + o * C, C);
            }
        }
        float* row = rows + (ptrdiff_t)omp_get_thread_num() * C;
#pragma omp for
        for (ptrdiff_t o = 0; o < O; o++) {
            float sum = 0.0f;
            memset(row, 0, C * sizeof(float));
            for (ptrdiff_t n = 0; n < N; n++) {
                sum += dout[n * O + o];
                add_row(row, dout[n * O + o], inp + n * C, C);
            }
            add_row(dweight + o * C, 1.0f, row, C);
            dbias[o] += sum;
        }
    }
}
