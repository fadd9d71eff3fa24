// A row goes sixteen channels at a time. The two sums are kept as sixteen partial ones, which also
// round less; the row stays in the first-level cache for all passes.
// Against 02: explicit vectors, since the compiler may not reorder a sum.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void layernorm_forward(float* out, float* mean, float* rstd,
                       const float* inp, const float* weight, const float* bias,
                       int N, int C, float eps, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int n = 0; n < N; n++) {
        const float* x = inp + (size_t)n * C;  // inp[n, :]
        float* y = out + (size_t)n * C;        // out[n, :]

        lanes sum = {0};
        for (int c = 0; c < C; c += LANES) {
            sum += load(x + c, C - c);
        }
        float m = sum_of(sum) / C;

        lanes squares = {0};
        for (int c = 0; c < C; c += LANES) {
            lanes d = keep(load(x + c, C - c) - m, every(0.0f), C - c);
            squares += d * d;
        }
        float r = 1.0f / sqrtf(sum_of(squares) / C + eps);

        for (int c = 0; c < C; c += LANES) {
            lanes xhat = (load(x + c, C - c) - m) * r;
            store(y + c, xhat * load(weight + c, C - c) + load(bias + c, C - c), C - c);
        }
        mean[n] = m;
        rstd[n] = r;
    }
}
