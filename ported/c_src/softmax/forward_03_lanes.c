// A row goes sixteen columns at a time, with an exponential of our own (common.h).
// Against 02: explicit vectors, and one division a row instead of one an element.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void softmax_forward(float* out, const float* inp, int N, int C, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int n = 0; n < N; n++) {
        const float* x = inp + (size_t)n * C;  // inp[n, :]
        float* y = out + (size_t)n * C;        // out[n, :]
        const lanes nothing = every(-INFINITY);

        lanes top = nothing;
        for (int c = 0; c < C; c += LANES) {
            top = larger(keep(load(x + c, C - c), nothing, C - c), top);  // may step over a NaN
        }
        float max = largest_of(top);

        lanes total = {0};
        for (int c = 0; c < C; c += LANES) {
            lanes e = exp_of(load(x + c, C - c) - max);
            store(y + c, e, C - c);
            total += keep(e, every(0.0f), C - c);
        }
        float share = 1.0f / sum_of(total);

        for (int c = 0; c < C; c += LANES) {
            store(y + c, load(y + c, C - c) * share, C - c);
        }
    }
}
