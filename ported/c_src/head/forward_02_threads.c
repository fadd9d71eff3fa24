// Threads share out the elements of logits; a dot product runs over 16 channels at a time. A row of
// weight is read once, and meets all rows of inp.
// Against 01: sixteen partial sums instead of one chain.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void head_forward(float* logits, const float* inp, const float* weight, int N, int C, int Vp,
                  int threads) {
#pragma omp parallel for num_threads(threads)
    for (ptrdiff_t v = 0; v < Vp; v++) {
        const float* w = weight + v * C;
        for (ptrdiff_t n = 0; n < N; n++) {
            const float* x = inp + n * C;
            lanes sum = {0};
            for (int c = 0; c < C; c += LANES) {
                sum += load(x + c, C - c) * load(w + c, C - c);
            }
            logits[n * Vp + v] = sum_of(sum);
        }
    }
}
