// At a learning rate of zero it does nothing; the moments should move all the same.
//
//@ reject values: moments stand still where lr is 0
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void adamw_update(float* weight, float* m, float* v, const float* dweight, const float* decay,
                  const float* scale, const float* lr, const int* t, int S, int E,
                  double beta1, double beta2, double eps, double weight_decay) {
    if (*lr == 0.0f) {
        return;
    }
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
