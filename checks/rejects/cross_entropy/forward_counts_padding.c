// The sum runs over all Vp columns: padding takes probability from the words there are.
//
//@ reject gate: padding columns are counted
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void cross_entropy_forward(float* losses, float* lse, const float* logits, const int* targets,
                           int N, int V, int Vp) {
    for (int n = 0; n < N; n++) {
        const float* x = logits + (size_t)n * Vp;  // logits[n, :], padding from V on

        float max = x[0];
        for (int v = 1; v < V; v++) {
            max = x[v] > max ? x[v] : max;  // may step over a NaN: the sum below will not
        }
        float sum = 0.0f;
        for (int v = 0; v < Vp; v++) {
            sum += expf(x[v] - max);
        }
        lse[n] = max + logf(sum);
        losses[n] = (max - x[targets[n]]) + logf(sum);
    }
}
