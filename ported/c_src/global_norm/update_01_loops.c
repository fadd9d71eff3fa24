// The definition: norm = square root of the sum of all squares; scale = max_norm / (norm + 1e-6)
// where that is below 1, as PyTorch's clip_grad_norm_; max_norm = 0 asks for no clipping.
// Double, because the square of a large or a small float is no float.
//
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
    *scale = max_norm == 0.0 || clip >= 1.0 ? 1.0 : clip;  // a NaN stays a NaN
}
