// The tied weight: what the embedding has put there is lost.
//
//@ reject accumulate: dweight overwrites what stands there
//@ dtype   all=float32
//@ scratch row F32["C"]
//@ claims  deterministic batch_invariant
#include <stddef.h>

void head_backward(float* dinp, float* dweight, float* row, const float* dlogits,
                   const float* inp, const float* weight, int N, int C, int Vp) {
    for (int n = 0; n < N; n++) {
        float* dx = dinp + (size_t)n * C;  // dinp[n, :]
        for (int c = 0; c < C; c++) {
            dx[c] = 0.0f;
        }
        for (int v = 0; v < Vp; v++) {
            float d = dlogits[(size_t)n * Vp + v];
            for (int c = 0; c < C; c++) {
                dx[c] += d * weight[(size_t)v * C + c];
            }
        }
    }
    for (int v = 0; v < Vp; v++) {
        for (int c = 0; c < C; c++) {
            row[c] = 0.0f;
        }
        for (int n = 0; n < N; n++) {
            float d = dlogits[(size_t)n * Vp + v];
            for (int c = 0; c < C; c++) {
                row[c] += d * inp[(size_t)n * C + c];
            }
        }
        for (int c = 0; c < C; c++) {
            dweight[(size_t)v * C + c] = row[c];
        }
    }
}
