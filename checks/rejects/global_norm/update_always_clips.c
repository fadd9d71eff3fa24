// Short gradients are stretched to max_norm, since nothing caps the factor at 1.
//
//@ reject gate: scale exceeds 1
//@ dtype  all=float32
//@ claims deterministic
#include <math.h>
#include <stddef.h>

void global_norm_update(float* norm, float* scale, const float* dweight, int S, int E,
                        double max_norm) {
    double sum = 0.0;
    for (size_t i = 0; i < (size_t)S * E; i++) {
        sum += (double)dweight[i] * dweight[i];
    }
    double length = sqrt(sum);
    double clip = max_norm / (length + 1e-6);
    *norm = length;
    *scale = max_norm == 0.0 ? 1.0 : clip;  // a NaN stays a NaN
}
