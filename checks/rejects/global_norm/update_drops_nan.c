// A gradient with a NaN in it passes unclipped: NaN < 1 is false, and so the factor is 1.
//
//@ reject laws: a NaN does not reach scale
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
    *scale = max_norm != 0.0 && clip < 1.0 ? clip : 1.0;
}
