// One maximum for the whole batch, which rounds a row differently in other company.
//
//@ reject claims: a row's result depends on the other rows
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void softmax_forward(float* out, const float* inp, int N, int C) {
    for (int n = 0; n < N; n++) {
        const float* x = inp + (size_t)n * C;  // inp[n, :]
        float* y = out + (size_t)n * C;        // out[n, :]

        float max = inp[0];
        for (size_t i = 1; i < (size_t)N * C; i++) {
            max = inp[i] > max ? inp[i] : max;
        }
        float sum = 0.0f;
        for (int c = 0; c < C; c++) {
            y[c] = expf(x[c] - max);
            sum += y[c];
        }
        for (int c = 0; c < C; c++) {
            y[c] /= sum;
        }
    }
}
