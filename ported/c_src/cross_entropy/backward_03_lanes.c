// A row goes sixteen columns at a time, with an exponential of our own (common.h); the target's
// column is set right afterwards.
// Against 02: explicit vectors, and no question in the inner loop.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void cross_entropy_backward(float* dlogits, const float* dlosses, const float* logits,
                            const int* targets, const float* lse, int N, int V, int Vp,
                            int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int n = 0; n < N; n++) {
        const float* x = logits + (size_t)n * Vp;  // logits[n, :]
        float* dx = dlogits + (size_t)n * Vp;      // dlogits[n, :]
        for (int v = 0; v < V; v += LANES) {
            store(dx + v, exp_of(load(x + v, V - v) - lse[n]) * dlosses[n], V - v);
        }
        float p = expf(x[targets[n]] - lse[n]);
        dx[targets[n]] = dlosses[n] * (p - 1.0f);
        memset(dx + V, 0, (Vp - V) * sizeof(float));
    }
}
