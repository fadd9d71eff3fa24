// One float32 sum over all parameters: what is added drops below its last place.
//
//@ reject shapes: a million terms one after another in float32
//@ dtype  all=float32
//@ claims deterministic
#include <math.h>
#include <stddef.h>

void global_norm_update(float* norm, float* scale, const float* dweight, int S, int E,
                        double max_norm) {
    float sum = 0.0f;
    for (size_t i = 0; i < (size_t)S * E; i++) {
        sum += dweight[i] * dweight[i];
    }
    double length = sqrt(sum);
    double clip = max_norm / (length + 1e-6);
    *norm = length;
    *scale = max_norm == 0.0 || clip >= 1.0 ? 1.0 : clip;  // a NaN stays a NaN
}
