// The padding columns keep their scores, and the head's backward takes those for gradients.
//
//@ reject gate: padding columns are not zero
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void classifier_forward(float* losses, float* logits, const int* targets, const float* dscale,
                        int N, int V, int Vp) {
    for (int n = 0; n < N; n++) {
        float* x = logits + (size_t)n * Vp;  // logits[n, :], padding from V on
        int target = targets[n];

        float max = x[0];
        for (int v = 1; v < V; v++) {
            max = x[v] > max ? x[v] : max;  // may step over a NaN: the sum below will not
        }
        float at_target = max - x[target];  // before the logits are overwritten
        float sum = 0.0f;
        for (int v = 0; v < V; v++) {
            x[v] = expf(x[v] - max);
            sum += x[v];
        }
        losses[n] = at_target + logf(sum);
        for (int v = 0; v < V; v++) {
            float p = x[v] / sum;
            x[v] = *dscale * (v == target ? p - 1.0f : p);
        }
    }
}
