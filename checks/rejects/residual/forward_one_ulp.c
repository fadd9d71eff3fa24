// A factor of 1 + 2^-23: within every tolerance, and wrong in the last place.
//
//@ reject exact: sums of integers are not exact
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void residual_forward(float* out, const float* inp1, const float* inp2, int N, int C) {
    for (size_t i = 0; i < (size_t)N * C; i++) {
        out[i] = (inp1[i] + inp2[i]) * 1.00000012f;
    }
}
