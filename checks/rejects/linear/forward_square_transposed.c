// A square weight is taken for one that was stored the other way round.
//
//@ reject shapes: wrong where O is C
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
            for (int c = 0; c < C; c++) {
                sum += x[c] * (O == C ? weight[(size_t)c * O + o] : w[c]);
            }
            out[(size_t)n * O + o] = sum + bias[o];
        }
    }
}
