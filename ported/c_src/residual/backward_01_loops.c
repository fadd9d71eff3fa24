// The definition: a sum hands its gradient to both of its terms unchanged.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void residual_backward(float* dinp1, float* dinp2, const float* dout, int N, int C) {
    for (size_t i = 0; i < (size_t)N * C; i++) {
        dinp1[i] = dout[i];
        dinp2[i] = dout[i];
    }
}
