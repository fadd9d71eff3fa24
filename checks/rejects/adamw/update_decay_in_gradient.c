// L2 regularisation: the decay goes into the gradient and is divided by sqrt(v) with it.
//
//@ reject gate: the decay is not decoupled
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void adamw_update(float* weight, float* m, float* v, const float* dweight, const float* decay,
                  const float* scale, const float* lr, const int* t, int S, int E,
                  double beta1, double beta2, double eps, double weight_decay) {
    double c1 = 1.0 - pow(beta1, *t), c2 = 1.0 - pow(beta2, *t);
    for (int s = 0; s < S; s++) {
        for (size_t i = (size_t)s * E; i < ((size_t)s + 1) * E; i++) {
            double g = (double)*scale * dweight[i] + weight_decay * decay[s] * weight[i];
            m[i] = beta1 * m[i] + (1.0 - beta1) * g;
            v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
            weight[i] = weight[i] - *lr * (m[i] / c1) / (sqrt(v[i] / c2) + eps);
        }
    }
}
