// Small batches are summed backwards: right, but not the same bits for the same row.
//
//@ reject claims: a row's rounding depends on the number of rows
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
                int i = N < 4 ? C - 1 - c : c;
                sum += x[i] * w[i];
            }
            out[(size_t)n * O + o] = sum + bias[o];
        }
    }
}
