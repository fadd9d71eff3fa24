// dinp = out * dout: the sum over the row, which makes the parts add up to zero, is missing.
//
//@ reject gate: the row's dot product is missing
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void softmax_backward(float* dinp, const float* dout, const float* out, int N, int C) {
    for (int n = 0; n < N; n++) {
        const float* dy = dout + (size_t)n * C;  // dout[n, :]
        const float* y = out + (size_t)n * C;    // out[n, :]

        for (int c = 0; c < C; c++) {
            dinp[(size_t)n * C + c] = y[c] * dy[c];
        }
    }
}
