// tanh by its first rational approximation, u (27 + u^2) / (27 + 9 u^2), cut off at 3: three
// digits.
//
//@ reject gate: tanh is approximated to three digits
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

static float crude_tanh(float u) {
    return fabsf(u) > 3.0f ? copysignf(1.0f, u) : u * (27.0f + u * u) / (27.0f + 9.0f * u * u);
}

void gelu_forward(float* out, const float* inp, int N, int C) {
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    for (size_t i = 0; i < (size_t)N * C; i++) {
        float x = inp[i];
        float u = k * (x + 0.044715f * x * x * x);
        out[i] = 0.5f * x * (1.0f + crude_tanh(u));
    }
}
