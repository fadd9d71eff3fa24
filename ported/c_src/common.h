// Sixteen floats at a time, in the vector types of GCC and Clang: one register with AVX-512, two or
// four smaller ones elsewhere, so that sums have the same order on every machine. A row of n floats
// is walked as
//     for (int c = 0; c < n; c += LANES) { lanes x = load(p + c, n - c); store(q + c, x, n - c); }
// where load fills with zeros beyond n, store writes nothing there, and no pointer need be aligned.
#pragma once
#include <math.h>
#include <stddef.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#else
#pragma GCC diagnostic ignored "-Wpsabi"  // nothing here is passed between two compilers
#endif

#define LANES 16
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int int_lanes __attribute__((vector_size(4 * LANES)));
#define INLINE static inline __attribute__((always_inline, unused))

// The first min(left, 16) floats at p, then zeros.
INLINE lanes load(const float* p, ptrdiff_t left) {
#if defined(__AVX512F__)
    return (lanes)_mm512_maskz_loadu_ps(left < LANES ? (1 << left) - 1 : 0xffff, p);
#else
    lanes x = {0};
    memcpy(&x, p, left < LANES ? left * sizeof(float) : sizeof x);
    return x;
#endif
}

// Writes the first min(left, 16) lanes to p.
INLINE void store(float* p, lanes x, ptrdiff_t left) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, left < LANES ? (1 << left) - 1 : 0xffff, (__m512)x);
#else
    memcpy(p, &x, left < LANES ? left * sizeof(float) : sizeof x);
#endif
}

// x where the lane is one of the first `left`, `other` beyond.
INLINE lanes keep(lanes x, lanes other, ptrdiff_t left) {
#if defined(__AVX512F__)
    __mmask16 inside = left < LANES ? (1 << left) - 1 : 0xffff;
    return (lanes)_mm512_mask_blend_ps(inside, (__m512)other, (__m512)x);
#else
    for (ptrdiff_t i = left; i < LANES; i++) {
        x[i] = other[i];
    }
    return x;
#endif
}

INLINE lanes every(float x) { return (lanes){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

// Where the mask is set a, elsewhere b.
INLINE lanes choose(int_lanes mask, lanes a, lanes b) {
    return (lanes)(((int_lanes)a & mask) | ((int_lanes)b & ~mask));
}

// The larger of each pair; y where either is NaN.
INLINE lanes larger(lanes x, lanes y) {
#if defined(__AVX512F__)
    return (lanes)_mm512_max_ps((__m512)x, (__m512)y);
#else
    return choose(x > y, x, y);
#endif
}

// The smaller of each pair; y where either is NaN.
INLINE lanes smaller(lanes x, lanes y) {
#if defined(__AVX512F__)
    return (lanes)_mm512_min_ps((__m512)x, (__m512)y);
#else
    return choose(x < y, x, y);
#endif
}

// The sum of all lanes, halves folded onto each other.
INLINE float sum_of(lanes x) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)x);
#else
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            x[i] += x[i + half];
        }
    }
    return x[0];
#endif
}

// The largest lane; may step over a NaN.
INLINE float largest_of(lanes x) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)x);
#else
    float largest = x[0];
    for (int i = 1; i < LANES; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    return largest;
#endif
}

// x * 2^n for integral n between -252 and 254: infinity above, denormals rounded once below.
INLINE lanes times_power_of_two(lanes x, lanes n) {
#if defined(__AVX512F__)
    return (lanes)_mm512_scalef_ps((__m512)x, (__m512)n);
#else
    int_lanes whole = __builtin_convertvector(n, int_lanes), half = whole >> 1;
    lanes first = (lanes)((half + 127) << 23), second = (lanes)((whole - half + 127) << 23);
    return x * first * second;
#endif
}

// e^x within 1 ulp; 0 below -104, infinity above 88.73, NaN stays.
// x = n ln 2 + r with |r| <= ln 2 / 2; n ln 2 is subtracted in two pieces, the first one exact.
// e^r = 1 + r + r^2 q(r), q of degree 4 with the least largest relative error, 3.1e-9 (Remez).
INLINE lanes exp_of(lanes x) {
    const lanes round = every(12582912.0f);  // 1.5 * 2^23: adding it leaves no fraction
    x = smaller(every(89.0f), larger(every(-104.0f), x));
    lanes n = (x * 1.44269504f + round) - round;
    lanes r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    lanes q = r * 1.3814309e-3f + 8.3688566e-3f;
    q = q * r + 4.1668402e-2f;
    q = q * r + 1.6666519e-1f;
    q = q * r + 4.9999993e-1f;
    return times_power_of_two(q * (r * r) + r + 1.0f, n);
}
