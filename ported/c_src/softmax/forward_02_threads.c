// Each thread takes its share of the rows: rows know nothing of each other.
// Against 01: the loop over rows is parallel; a row's arithmetic is the same.
//
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
