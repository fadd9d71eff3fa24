// A row is kept in a buffer of 8192 numbers.
//
//@ reject launch: longer rows run over the stack
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void softmax_forward(float* out, const float* inp, int N, int C, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int n = 0; n < N; n++) {
        const float* x = inp + (size_t)n * C;  // inp[n, :]
        float* y = out + (size_t)n * C;        // out[n, :]

        float max = x[0];
        for (int c = 1; c < C; c++) {
            max = x[c] > max ? x[c] : max;  // may step over a NaN: the sum below will not
        }
        float sum = 0.0f, e[8192];
        for (int c = 0; c < C; c++) {
            e[c] = expf(x[c] - max);
            sum += e[c];
        }
        for (int c = 0; c < C; c++) {
            y[c] = e[c] / sum;
        }
    }
}
