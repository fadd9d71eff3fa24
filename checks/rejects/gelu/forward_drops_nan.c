// fmaxf and fminf keep the argument in range, and turn a NaN into a number.
//
//@ reject laws: a NaN comes out finite
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void gelu_forward(float* out, const float* inp, int N, int C) {
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    for (size_t i = 0; i < (size_t)N * C; i++) {
        float x = fminf(fmaxf(inp[i], -3e38f), 3e38f);
        float u = k * (x + 0.044715f * x * x * x);
        out[i] = 0.5f * x * (1.0f + tanhf(u));
    }
}
