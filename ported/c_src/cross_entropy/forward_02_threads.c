// Each thread takes its share of the rows: rows know nothing of each other.
// Against 01: the loop over rows is parallel; a row's arithmetic is the same.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void cross_entropy_forward(float* losses, float* lse, const float* logits, const int* targets,
                           int N, int V, int Vp, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int n = 0; n < N; n++) {
        const float* x = logits + (size_t)n * Vp;  // logits[n, :], padding from V on

        float max = x[0];
        for (int v = 1; v < V; v++) {
            max = x[v] > max ? x[v] : max;  // may step over a NaN: the sum below will not
        }
        float sum = 0.0f;
        for (int v = 0; v < V; v++) {
            sum += expf(x[v] - max);
        }
        lse[n] = max + logf(sum);
        losses[n] = (max - x[targets[n]]) + logf(sum);
    }
}
