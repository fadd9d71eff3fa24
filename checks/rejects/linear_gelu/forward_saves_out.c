// What is saved for the backward pass is the activation instead of what went into it.
//
//@ reject gate: pre holds out
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void linear_gelu_forward(float* pre, float* out, const float* inp, const float* weight,
                         const float* bias, int N, int C, int O) {
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    for (int n = 0; n < N; n++) {
        for (int o = 0; o < O; o++) {
            const float* row = inp + (size_t)n * C;   // inp[n, :]
            const float* w = weight + (size_t)o * C;  // weight[o, :]
            float sum = 0.0f;
            for (int c = 0; c < C; c++) {
                sum += row[c] * w[c];
            }
            float x = sum + bias[o];
            float u = k * (x + 0.044715f * x * x * x);
            pre[(size_t)n * O + o] = 0.5f * x * (1.0f + tanhf(u));
            out[(size_t)n * O + o] = 0.5f * x * (1.0f + tanhf(u));
        }
    }
}
