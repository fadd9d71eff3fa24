// One element of all, the middle one, is 1 % too large.
//
//@ reject gate: one element is 1 % off
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void gelu_backward(float* dinp, const float* dout, const float* inp, int N, int C) {
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    for (size_t i = 0; i < (size_t)N * C; i++) {
        float x = inp[i];
        float y = fminf(fmaxf(x, -20.0f), 20.0f);  // x^2 = inf must not meet 1 - t^2 = 0
        float t = tanhf(k * (y + 0.044715f * y * y * y));
        float du = k * (1.0f + 3.0f * 0.044715f * y * y);
        dinp[i] = dout[i] * (0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du);
    }
    dinp[(size_t)N * C / 2] *= 1.01f;
}
