// The definition: with t = tanh(u), u = sqrt(2/pi) * (x + 0.044715 x^3),
//   d out / d x = (1 + t)/2 + x/2 * (1 - t^2) * du/dx,    du/dx = sqrt(2/pi) (1 + 0.134145 x^2).
//
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
}
