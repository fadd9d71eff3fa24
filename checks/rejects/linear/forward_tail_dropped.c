// Four channels at a time, and no loop for the rest.
//
//@ reject shapes: right where C is a multiple of 4
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void linear_forward(float* out, const float* inp, const float* weight, const float* bias,
                    int N, int C, int O) {
    for (int n = 0; n < N; n++) {
        for (int o = 0; o < O; o++) {
            const float* x = inp + (size_t)n * C;     // inp[n, :]
            const float* w = weight + (size_t)o * C;  // weight[o, :]
            float sum = 0.0f;
            for (int c = 0; c + 4 <= C; c += 4) {
                sum += x[c] * w[c] + x[c + 1] * w[c + 1];
                sum += x[c + 2] * w[c + 2] + x[c + 3] * w[c + 3];
            }
            out[(size_t)n * O + o] = sum + bias[o];
        }
    }
}
