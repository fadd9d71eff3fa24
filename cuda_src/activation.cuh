// GELU in its tanh form, value and slope, for the epilogues of products (derivation:
// reference/explicit/gelu.py).
#pragma once
#include "common.cuh"

constexpr float GELU_SLOPE = 0.7978845608028654f;  // sqrt(2 / pi)
constexpr float GELU_CUBIC = 0.044715f;

__device__ inline float gelu(float x) {
    return 0.5f * x * (1.0f + tanhf(GELU_SLOPE * (x + GELU_CUBIC * x * x * x)));
}
__device__ inline float gelu_slope(float x) {
    float y = fminf(fmaxf(x, -20.0f), 20.0f);  // x^2 = inf must not meet 1 - t^2 = 0
    float t = tanhf(GELU_SLOPE * (y + GELU_CUBIC * y * y * y));
    float du = GELU_SLOPE * (1.0f + 3.0f * GELU_CUBIC * y * y);
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * du;
}
