// A row goes sixteen columns at a time, with an exponential of our own (common.h), and stays in the
// second-level cache for its three passes: maximum, exponentials and their sum, gradient.
// Against 02: explicit vectors, one multiplication for dscale and the sum together.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

void classifier_forward(float* losses, float* logits, const int* targets, const float* dscale,
                        int N, int V, int Vp, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int n = 0; n < N; n++) {
        float* x = logits + (size_t)n * Vp;  // logits[n, :], padding from V on
        const lanes nothing = every(-INFINITY);
        int target = targets[n];

        lanes top = nothing;
        for (int v = 0; v < V; v += LANES) {
            top = larger(keep(load(x + v, V - v), nothing, V - v), top);  // may step over a NaN
        }
        float max = largest_of(top);
        float at_target = max - x[target];  // before the logits are overwritten

        lanes total = {0};
        for (int v = 0; v < V; v += LANES) {
            lanes e = exp_of(load(x + v, V - v) - max);
            store(x + v, e, V - v);
            total += keep(e, every(0.0f), V - v);
        }
        float sum = sum_of(total);
        losses[n] = at_target + logf(sum);

        float p = x[target] / sum;
        float share = *dscale / sum;
        for (int v = 0; v < V; v += LANES) {
            store(x + v, load(x + v, V - v) * share, V - v);
        }
        x[target] = *dscale * (p - 1.0f);
        memset(x + V, 0, (Vp - V) * sizeof(float));
    }
}
