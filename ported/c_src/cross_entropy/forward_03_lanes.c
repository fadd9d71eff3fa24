// A row goes sixteen columns at a time, with an exponential of our own (common.h): one pass for the
// maximum, one for the sum, which finds the row in the second-level cache.
// Against 02: explicit vectors.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void cross_entropy_forward(float* losses, float* lse, const float* logits, const int* targets,
                           int N, int V, int Vp, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int n = 0; n < N; n++) {
        const float* x = logits + (size_t)n * Vp;  // logits[n, :], padding from V on
        const lanes nothing = every(-INFINITY);

        lanes top = nothing;
        for (int v = 0; v < V; v += LANES) {
            top = larger(keep(load(x + v, V - v), nothing, V - v), top);  // may step over a NaN
        }
        float max = largest_of(top);

        lanes total = {0};
        for (int v = 0; v < V; v += LANES) {
            total += keep(exp_of(load(x + v, V - v) - max), every(0.0f), V - v);
        }
        float log_total = logf(sum_of(total));
        lse[n] = max + log_total;
        losses[n] = (max - x[targets[n]]) + log_total;
    }
}
