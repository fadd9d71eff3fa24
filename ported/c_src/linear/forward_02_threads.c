// Threads share out the elements of out; a dot product runs over 16 channels at a time.
// Against 01: sixteen partial sums instead of one chain.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void linear_forward(float* out, const float* inp, const float* weight, const float* bias, int N,
                    int C, int O, int threads) {
#pragma omp parallel for collapse(2) num_threads(threads)
    for (ptrdiff_t n = 0; n < N; n++) {
        for (ptrdiff_t o = 0; o < O; o++) {
            const float* x = inp + n * C;
            const float* w = weight + o * C;
            lanes sum = {0};
            for (int c = 0; c < C; c += LANES) {
                sum += load(x + c, C - c) * load(w + c, C - c);
            }
            out[n * O + o] = sum_of(sum) + bias[o];
        }
    }
}
