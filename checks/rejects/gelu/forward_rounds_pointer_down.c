// The input is read from the multiple of 64 bytes at or below it.
//
//@ reject pointers: reads another place where a pointer is not aligned
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>
#include <stdint.h>

void gelu_forward(float* out, const float* inp, int N, int C) {
    const float k = 0.7978845608028654f;  // sqrt(2/pi)
    inp = (const float*)((uintptr_t)inp & ~(uintptr_t)63);
    for (size_t i = 0; i < (size_t)N * C; i++) {
        float x = inp[i];
        float u = k * (x + 0.044715f * x * x * x);
        out[i] = 0.5f * x * (1.0f + tanhf(u));
    }
}
