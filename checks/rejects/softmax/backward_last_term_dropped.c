// The dot product stops one column early.
//
//@ reject gate: the dot product lacks its last term
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void softmax_backward(float* dinp, const float* dout, const float* out, int N, int C) {
    for (int n = 0; n < N; n++) {
        const float* dy = dout + (size_t)n * C;  // dout[n, :]
        const float* y = out + (size_t)n * C;    // out[n, :]

        float dot = 0.0f;
        for (int c = 0; c < C - 1; c++) {
            dot += dy[c] * y[c];
        }
        for (int c = 0; c < C; c++) {
            dinp[(size_t)n * C + c] = y[c] * (dy[c] - dot);
        }
    }
}
