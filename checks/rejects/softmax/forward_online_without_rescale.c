// One pass for maximum and sum, but the sum so far is not rescaled when the maximum moves.
//
//@ reject gate: the running sum is not rescaled
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void softmax_forward(float* out, const float* inp, int N, int C) {
    for (int n = 0; n < N; n++) {
        const float* x = inp + (size_t)n * C;  // inp[n, :]
        float* y = out + (size_t)n * C;        // out[n, :]

        float max = x[0], sum = 0.0f;
        for (int c = 0; c < C; c++) {
            max = x[c] > max ? x[c] : max;
            sum += expf(x[c] - max);
        }
        for (int c = 0; c < C; c++) {
            y[c] = expf(x[c] - max) / sum;
        }
    }
}
