// += for =: right as long as somebody has cleared the memory.
//
//@ reject poison: dinp1 is added to what stands there
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void residual_backward(float* dinp1, float* dinp2, const float* dout, int N, int C) {
    for (size_t i = 0; i < (size_t)N * C; i++) {
        dinp1[i] += dout[i];
        dinp2[i] = dout[i];
    }
}
