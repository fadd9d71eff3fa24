// Random bits by number, and rounding with them.
//
// Philox4x32-10 turns a counter of four words and a key of two into four words that no statistical
// test tells from random ones; nothing is kept from draw to draw, so that any thread can make any
// element's bits. Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2,
// 3", SC 2011, section 3.3.
//
// Element i of step t takes half-word i % 8 of the draw with counter (i / 8, t, 0) and the bits of
// the double `seed` as key.
#pragma once
#include "common.cuh"

// The random bits of eight neighbours.
struct Draw {
    unsigned a, b, c, d;
    __device__ unsigned half(int j) const {
        unsigned word = j < 4 ? (j < 2 ? a : b) : (j < 6 ? c : d);
        return word >> (j % 2 * 16) & 0xffffu;
    }
};

__device__ inline Draw draw_eight(int64_t eight, int t, double seed) {
    uint64_t key = (uint64_t)__double_as_longlong(seed);
    unsigned k0 = (unsigned)key, k1 = (unsigned)(key >> 32);
    unsigned a = (unsigned)eight, b = (unsigned)((uint64_t)eight >> 32), c = (unsigned)t, d = 0;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        unsigned high_a = __umulhi(0xD2511F53u, a), low_a = 0xD2511F53u * a;
        unsigned high_c = __umulhi(0xCD9E8D57u, c), low_c = 0xCD9E8D57u * c;
        a = high_c ^ b ^ k0;
        b = low_c;
        c = high_a ^ d ^ k1;
        d = low_a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {a, b, c, d};
}

// x as T, away from zero with the probability x's place between its neighbours says. bfloat16 is
// the upper half of a float: the lower half over 2^16 is that probability, also among denormals,
// and adding 16 random bits carries into the upper half as often. Beyond the largest number the
// neighbour is infinity; zeros, infinities and whatever T holds have a lower half of zero and stay.
template <class T> __device__ inline T round_at_random(float x, unsigned half);
template <> __device__ inline float round_at_random<float>(float x, unsigned) { return x; }
template <> __device__ inline __nv_bfloat16 round_at_random<__nv_bfloat16>(float x, unsigned half) {
    if (isnan(x)) return from_float<__nv_bfloat16>(x);  // a carry would end at zero
    return from_float<__nv_bfloat16>(__uint_as_float((__float_as_uint(x) + half) & 0xffff0000u));
}
