// GELU's value and slope, each in two forms. With u(x) = sqrt(2/pi) (x + 0.044715 x^3):
//   by tanh          out = x/2 (1 + tanh u)            slope = (1 + t)/2 + x/2 (1 - t^2) u'
//   by exponential   out = x / (1 + e^(-2u))           slope = h + x e s^2 2u'
// with t = tanh u; e = e^(-2|u|), s = 1 / (1 + e), h = s where x > 0 and e s elsewhere. The second
// form has no cancellation in 1 + tanh u. fmaf where a product is added to, so that every use of
// these functions rounds alike. |x| is cut at 20 in slopes: x^2 = inf must not meet e = 0.
#pragma once
#include "elements.cuh"

constexpr float SLOPE = 0.7978845608028654f;           // sqrt(2 / pi)
constexpr float CUBIC = 0.044715f * SLOPE;
constexpr float TO_BASE_2 = -2.8853900817779268f;      // -2 / ln 2: e^(-2u) = 2^(TO_BASE_2 u)

__device__ inline float inner(float x) { return x * fmaf(CUBIC * x, x, SLOPE); }
__device__ inline float inner_slope(float x) { return fmaf(3.0f * CUBIC * x, x, SLOPE); }

__device__ inline float by_tanh(float x) {
    float half = 0.5f * x;
    return fmaf(half, tanhf(inner(x)), half);
}
__device__ inline float slope_by_tanh(float x) {
    float y = fminf(fmaxf(x, -20.0f), 20.0f);
    float t = tanhf(inner(y));
    return fmaf(0.5f * x * fmaf(-t, t, 1.0f), inner_slope(y), fmaf(0.5f, t, 0.5f));
}

__device__ inline float by_exponential(float x) { return x / (1.0f + expf(-2.0f * inner(x))); }
__device__ inline float slope_from(float x, float y, float e, float s) {
    return fmaf(x * (e * s * s), 2.0f * inner_slope(y), x > 0.0f ? s : e * s);
}
__device__ inline float slope_by_exponential(float x) {
    float y = fminf(fabsf(x), 20.0f);
    float e = expf(-2.0f * inner(y));
    return slope_from(x, y, e, 1.0f / (1.0f + e));
}

// The second form with the hardware's own 2^x and 1/x: far inside what bfloat16 resolves.
__device__ inline float by_hardware(float x) {
    return x * reciprocal_fast(1.0f + exp2_fast(TO_BASE_2 * inner(x)));
}
__device__ inline float slope_by_hardware(float x) {
    float y = fminf(fabsf(x), 20.0f);
    float e = exp2_fast(TO_BASE_2 * inner(y));
    return slope_from(x, y, e, reciprocal_fast(1.0f + e));
}
