// The path for rows of a multiple of 512 channels forgets the bias.
//
//@ reject shapes: wrong where C is 1024
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void layernorm_forward(float* out, float* mean, float* rstd,
                       const float* inp, const float* weight, const float* bias,
                       int N, int C, float eps) {
    for (int n = 0; n < N; n++) {
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
            y[c] = (x[c] - m) * r * weight[c] + (C % 512 ? bias[c] : 0.0f);
        }
        mean[n] = m;  // the backward pass needs both
        rstd[n] = r;
    }
}
