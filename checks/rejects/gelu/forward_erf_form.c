// The exact GELU, x Phi(x), where GPT-2 has the tanh form: they differ in the fourth digit.
//
//@ reject gate: erf where tanh is due
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void gelu_forward(float* out, const float* inp, int N, int C) {
    for (size_t i = 0; i < (size_t)N * C; i++) {
        float x = inp[i];
        out[i] = 0.5f * x * (1.0f + erff(x * 0.70710678f));
    }
}
