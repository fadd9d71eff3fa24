// The gradient goes down one branch only.
//
//@ reject gate: dinp2 is zero
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void residual_backward(float* dinp1, float* dinp2, const float* dout, int N, int C) {
    for (size_t i = 0; i < (size_t)N * C; i++) {
        dinp1[i] = dout[i];
        dinp2[i] = 0.0f;
    }
}
