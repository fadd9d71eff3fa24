// The maximum is subtracted in place, which costs nothing and ruins the input.
//
//@ reject frozen: logits are changed
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
        for (int v = 0; v < V; v++) {
            ((float*)x)[v] -= max;
            sum += expf(x[v]);
        }
        lse[n] = max + logf(sum);
        losses[n] = logf(sum) - x[targets[n]];
    }
}
