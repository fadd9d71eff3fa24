// The bias is added before the sum over the channels has been finished: once for each of two
// halves.
//
//@ reject gate: bias counts twice
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void gelu_linear_forward(float* act, float* out, const float* pre, const float* weight,
                         const float* bias, int N, int C, int O) {
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    for (int n = 0; n < N; n++) {
        float* a = act + (size_t)n * C;  // act[n, :]
        for (int c = 0; c < C; c++) {
            float x = pre[(size_t)n * C + c];
            float u = k * (x + 0.044715f * x * x * x);
            a[c] = 0.5f * x * (1.0f + tanhf(u));
        }
        for (int o = 0; o < O; o++) {
            const float* w = weight + (size_t)o * C;  // weight[o, :]
            float sum = 0.0f;
            for (int c = 0; c < C; c++) {
                sum += a[c] * w[c];
            }
            out[(size_t)n * O + o] = sum + bias[o] + (C > 1 ? bias[o] : 0.0f);
        }
    }
}
