// The definition: out = exp(inp - max) / sum over the row of exp(inp - max).
// Subtracting the row's maximum changes nothing but keeps exp finite.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void softmax_forward(float* out, const float* inp, int N, int C) {
    for (int n = 0; n < N; n++) {
        const float* x = inp + (size_t)n * C;  // inp[n, :]
        float* y = out + (size_t)n * C;        // out[n, :]

        float max = x[0];
        for (int c = 1; c < C; c++) {
            max = x[c] > max ? x[c] : max;  // may step over a NaN: the sum below will not
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
