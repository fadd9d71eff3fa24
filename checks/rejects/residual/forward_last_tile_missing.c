// Sixteen elements at a time, and the last few never.
//
//@ reject poison: the last N*C % 16 elements are never written
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void residual_forward(float* out, const float* inp1, const float* inp2, int N, int C) {
    for (size_t i = 0; i < (size_t)N * C / 16 * 16; i++) {
        out[i] = inp1[i] + inp2[i];
    }
}
