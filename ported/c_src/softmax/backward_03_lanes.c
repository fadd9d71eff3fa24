// A row goes sixteen columns at a time; the dot product is kept as sixteen partial sums.
// Against 02: explicit vectors, since the compiler may not reorder a sum.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void softmax_backward(float* dinp, const float* dout, const float* out, int N, int C, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int n = 0; n < N; n++) {
        const float* dy = dout + (size_t)n * C;  // dout[n, :]
        const float* y = out + (size_t)n * C;    // out[n, :]
        float* dx = dinp + (size_t)n * C;        // dinp[n, :]

        lanes sum = {0};
        for (int c = 0; c < C; c += LANES) {
            sum += load(dy + c, C - c) * load(y + c, C - c);
        }
        float dot = sum_of(sum);

        for (int c = 0; c < C; c += LANES) {
            store(dx + c, load(y + c, C - c) * (load(dy + c, C - c) - dot), C - c);
        }
    }
}
