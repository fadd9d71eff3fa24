// Columns go in blocks of eight, and the block that is not full is never done.
//
//@ reject poison: the last Vp % 8 columns are never written
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <stddef.h>

void head_forward(float* logits, const float* inp, const float* weight, int N, int C, int Vp) {
    for (int n = 0; n < N; n++) {
        for (int v = 0; v < Vp / 8 * 8; v++) {
            const float* x = inp + (size_t)n * C;     // inp[n, :]
            const float* w = weight + (size_t)v * C;  // weight[v, :]
            float sum = 0.0f;
            for (int c = 0; c < C; c++) {
                sum += x[c] * w[c];
            }
            logits[(size_t)n * Vp + v] = sum;
        }
    }
}
