// The definition: adamw's step on `master`, then weight = master. With g = scale * dweight,
//   m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2,
//   master -= lr * weight_decay * master   in segments that decay, then
//   master -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).
// In double, because 0.9 is no float: its rounding would pull every element the same way.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void adamw_master_update(float* weight, float* master, float* m, float* v, const float* dweight,
                         const float* decay, const float* scale, const float* lr, const int* t,
                         int S, int E, double beta1, double beta2, double eps,
                         double weight_decay) {
    double c1 = 1.0 - pow(beta1, *t), c2 = 1.0 - pow(beta2, *t);
    for (int s = 0; s < S; s++) {
        for (size_t i = (size_t)s * E; i < ((size_t)s + 1) * E; i++) {
            double g = (double)*scale * dweight[i];
            m[i] = beta1 * m[i] + (1.0 - beta1) * g;
            v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
            double kept = master[i] - *lr * weight_decay * decay[s] * master[i];
            master[i] = kept - *lr * (m[i] / c1) / (sqrt(v[i] / c2) + eps);
            weight[i] = master[i];
        }
    }
}
