// A NaN among the scores is left out of the sum: the loss looks healthy.
//
//@ reject laws: a NaN does not reach the loss
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void cross_entropy_forward(float* losses, float* lse, const float* logits, const int* targets,
                           int N, int V, int Vp) {
    for (int n = 0; n < N; n++) {
        const float* x = logits + (size_t)n * Vp;  // logits[n, :], padding from V on

        float max = -INFINITY;
        for (int v = 0; v < V; v++) {
            max = x[v] > max ? x[v] : max;  // may step over a NaN: the sum below will not
        }
        float sum = 0.0f;
        for (int v = 0; v < V; v++) {
            sum += x[v] == x[v] ? expf(x[v] - max) : 0.0f;
        }
        lse[n] = max + logf(sum);
        losses[n] = (max - x[targets[n]]) + logf(sum);
    }
}
