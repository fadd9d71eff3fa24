// The definition, tanh form (Hendrycks and Gimpel 2016):
//   out = x/2 * (1 + tanh(u)),    u = sqrt(2/pi) * (x + 0.044715 x^3).
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void gelu_forward(float* out, const float* inp, int N, int C) {
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    for (size_t i = 0; i < (size_t)N * C; i++) {
        float x = inp[i];
        float u = k * (x + 0.044715f * x * x * x);
        out[i] = 0.5f * x * (1.0f + tanhf(u));
    }
}
