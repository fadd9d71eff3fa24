// Rows go in tiles of eight, and the tile that is not full is never done.
//
//@ reject poison: the last N % 8 rows are never written
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void layernorm_forward(float* out, float* mean, float* rstd,
                       const float* inp, const float* weight, const float* bias,
                       int N, int C, float eps) {
    for (int n = 0; n < N / 8 * 8; n++) {
        const float* x = inp + (size_t)n * C;  // inp[n, :]
        float* y = out + (size_t)n * C;        // out[n, :]

        float sum = 0.0f;
        for (int c = 0; c < C; c++) {
            sum += x[c];
        }
        float m = sum / C;

        float squares = 0.0f;
        for (int c = 0; c < C; c++) {
            float d = x[c] - m;
            squares += d * d;
        }
        float r = 1.0f / sqrtf(squares / C + eps);  // the biased variance: over C, not C - 1

        for (int c = 0; c < C; c++) {
            y[c] = (x[c] - m) * r * weight[c] + bias[c];
        }
        mean[n] = m;  // the backward pass needs both
        rstd[n] = r;
    }
}
