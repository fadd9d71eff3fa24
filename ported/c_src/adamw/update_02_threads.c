// Each thread takes its share of the segments, and its elements go several at a time.
// Against 01: the root and the division, which are slow in double, are taken in float; what all
// elements share stays double. Seven streams of memory, three of them written, now set the pace.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void adamw_update(float* weight, float* m, float* v, const float* dweight, const float* decay,
                  const float* scale, const float* lr, const int* t, int S, int E,
                  double beta1, double beta2, double eps, double weight_decay, int threads) {
    double step = *lr / (1.0 - pow(beta1, *t)), root = 1.0 / sqrt(1.0 - pow(beta2, *t));
    double rest1 = 1.0 - beta1, rest2 = 1.0 - beta2, clip = *scale;
    #pragma omp parallel for num_threads(threads)
    for (int s = 0; s < S; s++) {
        double shrink = *lr * weight_decay * decay[s];  // 0 where decay[s] is 0
        size_t start = (size_t)s * E;
        #pragma omp simd
        for (size_t i = start; i < start + E; i++) {
            double g = clip * dweight[i];
            m[i] = beta1 * m[i] + rest1 * g;
            v[i] = beta2 * v[i] + rest2 * g * g;
            float size = sqrtf(v[i]) * root + eps;
            float ratio = m[i] / size;
            weight[i] = weight[i] - shrink * weight[i] - step * ratio;
        }
    }
}
