// The elements are shared out among threads, and within a thread among the lanes of a register.
// Against 01: one pragma; this is as fast as memory allows.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void residual_forward(float* out, const float* inp1, const float* inp2, int N, int C, int threads) {
    #pragma omp parallel for simd num_threads(threads)
    for (size_t i = 0; i < (size_t)N * C; i++) {
        out[i] = inp1[i] + inp2[i];
    }
}
