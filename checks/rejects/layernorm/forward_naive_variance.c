// The variance as E[x^2] - E[x]^2: both terms are a million where the mean is a thousand, and their
// difference is noise.
//
//@ reject values: the variance cancels at a large mean
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

        float sum = 0.0f, squares = 0.0f;
        for (int c = 0; c < C; c++) {
            sum += x[c];
            squares += x[c] * x[c];
        }
        float m = sum / C;
        float r = 1.0f / sqrtf(squares / C - m * m + eps);

        for (int c = 0; c < C; c++) {
            y[c] = (x[c] - m) * r * weight[c] + bias[c];
        }
        mean[n] = m;  // the backward pass needs both
        rstd[n] = r;
    }
}
