// The root of the mean square: independent of the size of the model, and not the norm.
//
//@ reject gate: the sum is divided by the number of elements
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
    double length = sqrt(sum / ((double)S * E));
    double clip = max_norm / (length + 1e-6);
    *norm = length;
    *scale = max_norm == 0.0 || clip >= 1.0 ? 1.0 : clip;  // a NaN stays a NaN
}
