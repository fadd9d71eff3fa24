// It leaves the processor rounding toward zero, for itself and for all that runs after it.
//
//@ reject frozen: changes the rounding of the whole process
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>
#include <fenv.h>

void gelu_forward(float* out, const float* inp, int N, int C) {
    fesetround(FE_TOWARDZERO);
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    for (size_t i = 0; i < (size_t)N * C; i++) {
        float x = inp[i];
        float u = k * (x + 0.044715f * x * x * x);
        out[i] = 0.5f * x * (1.0f + tanhf(u));
    }
}
