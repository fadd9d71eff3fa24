// Probabilities below 1e-6 count as zero, which no absolute tolerance of 1e-6 notices, and which is
// most of a large vocabulary.
//
//@ reject values: small probabilities are lost
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void cross_entropy_backward(float* dlogits, const float* dlosses, const float* logits,
                            const int* targets, const float* lse, int N, int V, int Vp) {
    for (int n = 0; n < N; n++) {
        const float* x = logits + (size_t)n * Vp;  // logits[n, :]
        float* dx = dlogits + (size_t)n * Vp;      // dlogits[n, :]
        for (int v = 0; v < V; v++) {
            float p = expf(x[v] - lse[n]);
            p = p < 1e-6f ? 0.0f : p;
            dx[v] = dlosses[n] * (v == targets[n] ? p - 1.0f : p);
        }
        for (int v = V; v < Vp; v++) {
            dx[v] = 0.0f;
        }
    }
}
