// Sixteen elements at a time, the last sixteen whole: zeros land in what lies behind.
//
//@ reject guards: writes past the end
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void residual_forward(float* out, const float* inp1, const float* inp2, int N, int C) {
    size_t size = (size_t)N * C;
    for (size_t i = 0; i < (size + 15) / 16 * 16; i++) {
        out[i] = i < size ? inp1[i] + inp2[i] : 0.0f;
    }
}
