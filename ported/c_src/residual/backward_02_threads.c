// The elements are shared out among threads, and within a thread among the lanes of a register.
// Against 01: one pragma; this is as fast as memory allows.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void residual_backward(float* dinp1, float* dinp2, const float* dout, int N, int C, int threads) {
    #pragma omp parallel for simd num_threads(threads)
    for (size_t i = 0; i < (size_t)N * C; i++) {
        dinp1[i] = dout[i];
        dinp2[i] = dout[i];
    }
}
