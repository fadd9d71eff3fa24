// exp of the scores as they are: infinity over infinity beyond 88.
//
//@ reject values: overflows for large scores
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void softmax_forward(float* out, const float* inp, int N, int C) {
    for (int n = 0; n < N; n++) {
        const float* x = inp + (size_t)n * C;  // inp[n, :]
        float* y = out + (size_t)n * C;        // out[n, :]

        float sum = 0.0f;
        for (int c = 0; c < C; c++) {
            y[c] = expf(x[c]);
            sum += y[c];
        }
        for (int c = 0; c < C; c++) {
            y[c] /= sum;
        }
    }
}
