// A row goes sixteen channels at a time: the first pass writes the sum of the inputs and gathers
// its mean, and the later passes find it in the first-level cache.
// Against 02: explicit vectors, since the compiler may not reorder a sum.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void residual_layernorm_forward(float* res, float* out, float* mean, float* rstd,
                                const float* inp1, const float* inp2,
                                const float* weight, const float* bias, int N, int C,
                                float eps, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int n = 0; n < N; n++) {
        const float* a = inp1 + (size_t)n * C;  // inp1[n, :]
        const float* b = inp2 + (size_t)n * C;  // inp2[n, :]
        float* x = res + (size_t)n * C;         // res[n, :]
        float* y = out + (size_t)n * C;         // out[n, :]

        lanes sum = {0};
        for (int c = 0; c < C; c += LANES) {
            lanes both = load(a + c, C - c) + load(b + c, C - c);
            store(x + c, both, C - c);
            sum += both;
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
