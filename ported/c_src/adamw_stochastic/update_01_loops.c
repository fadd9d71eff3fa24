// The definition: adamw's step. Weights are float32 here, which holds what it gives: nothing is
// drawn, and `seed` is not looked at. With g = scale * dweight,
//   m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2,
//   weight -= lr * weight_decay * weight   in segments that decay, then
//   weight -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).
// In double, because 0.9 is no float: its rounding would pull every element the same way.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void adamw_stochastic_update(float* weight, float* m, float* v, const float* dweight,
                             const float* decay, const float* scale, const float* lr,
                             const int* t, int S, int E, double beta1, double beta2, double eps,
                             double weight_decay) {
    double c1 = 1.0 - pow(beta1, *t), c2 = 1.0 - pow(beta2, *t);
    for (int s = 0; s < S; s++) {
        for (size_t i = (size_t)s * E; i < ((size_t)s + 1) * E; i++) {
            double g = (double)*scale * dweight[i];
            m[i] = beta1 * m[i] + (1.0 - beta1) * g;
            v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
            double kept = weight[i] - *lr * weight_decay * decay[s] * weight[i];
            weight[i] = kept - *lr * (m[i] / c1) / (sqrt(v[i] / c2) + eps);
        }
    }
}
