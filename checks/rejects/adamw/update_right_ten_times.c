// Right for ten calls, then it forgets the bias correction.
//
//@ reject gate: wrong from the eleventh call on
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void adamw_update(float* weight, float* m, float* v, const float* dweight, const float* decay,
                  const float* scale, const float* lr, const int* t, int S, int E,
                  double beta1, double beta2, double eps, double weight_decay) {
    static int calls;
    float step = ++calls <= 10 ? *lr / (1.0 - pow(beta1, *t)) : *lr;
    float root = sqrt(1.0 - pow(beta2, *t));
    float b1 = beta1, b2 = beta2, rest1 = 1.0 - beta1, rest2 = 1.0 - beta2, e = eps;
    for (int s = 0; s < S; s++) {
        float keep = 1.0 - (double)*lr * weight_decay * decay[s];  // 1 where decay[s] is 0
        for (size_t i = (size_t)s * E; i < ((size_t)s + 1) * E; i++) {
            float g = *scale * dweight[i];
            m[i] = b1 * m[i] + rest1 * g;
            v[i] = b2 * v[i] + rest2 * g * g;
            weight[i] = keep * weight[i] - step * m[i] / (sqrtf(v[i]) / root + e);
        }
    }
}
