// CUDA's arithmetic functions that C++ does not have. Fast ones are the exact ones here: their
// errors on a GPU are a few units in the last place (CUDA C++ Programming Guide, mathematical
// functions), which tolerances allow for and bits do not.
#pragma once

EMULATED_INLINE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
EMULATED_INLINE double rsqrt(double x) { return 1.0 / sqrt(x); }
EMULATED_INLINE float exp10f(float x) { return powf(10.0f, x); }
EMULATED_INLINE float __expf(float x) { return expf(x); }
EMULATED_INLINE float __exp10f(float x) { return exp10f(x); }
EMULATED_INLINE float __logf(float x) { return logf(x); }
EMULATED_INLINE float __log2f(float x) { return log2f(x); }
EMULATED_INLINE float __log10f(float x) { return log10f(x); }
EMULATED_INLINE float __powf(float x, float y) { return powf(x, y); }
EMULATED_INLINE float __sinf(float x) { return sinf(x); }
EMULATED_INLINE float __cosf(float x) { return cosf(x); }
EMULATED_INLINE float __tanhf(float x) { return tanhf(x); }
EMULATED_INLINE float __fdividef(float a, float b) { return a / b; }
EMULATED_INLINE float fdividef(float a, float b) { return a / b; }
EMULATED_INLINE float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

// Rounded to nearest, and never contracted to a fused multiply-add (the compiler is told so).
EMULATED_INLINE float __fadd_rn(float a, float b) { return a + b; }
EMULATED_INLINE float __fsub_rn(float a, float b) { return a - b; }
EMULATED_INLINE float __fmul_rn(float a, float b) { return a * b; }
EMULATED_INLINE float __fdiv_rn(float a, float b) { return a / b; }
EMULATED_INLINE float __frcp_rn(float a) { return 1.0f / a; }
EMULATED_INLINE float __fsqrt_rn(float a) { return sqrtf(a); }
EMULATED_INLINE float __frsqrt_rn(float a) { return (float)(1.0 / sqrt((double)a)); }
EMULATED_INLINE float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
EMULATED_INLINE double __dadd_rn(double a, double b) { return a + b; }
EMULATED_INLINE double __dmul_rn(double a, double b) { return a * b; }
EMULATED_INLINE double __ddiv_rn(double a, double b) { return a / b; }
EMULATED_INLINE double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
EMULATED_INLINE int __float2int_rn(float x) { return (int)rintf(x); }
EMULATED_INLINE int __float2int_rz(float x) { return (int)x; }
EMULATED_INLINE int __float2int_rd(float x) { return (int)floorf(x); }
EMULATED_INLINE int __float2int_ru(float x) { return (int)ceilf(x); }
EMULATED_INLINE float __int2float_rn(int x) { return (float)x; }
EMULATED_INLINE float __uint2float_rn(unsigned x) { return (float)x; }

namespace emulated {
template <class To, class From> EMULATED_INLINE To bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "bits of another size");
    To to;
    std::memcpy(&to, &from, sizeof(To));
    return to;
}
}  // namespace emulated
EMULATED_INLINE int __float_as_int(float x) { return emulated::bits<int>(x); }
EMULATED_INLINE unsigned __float_as_uint(float x) { return emulated::bits<unsigned>(x); }
EMULATED_INLINE float __int_as_float(int x) { return emulated::bits<float>(x); }
EMULATED_INLINE float __uint_as_float(unsigned x) { return emulated::bits<float>(x); }
EMULATED_INLINE long long __double_as_longlong(double x) { return emulated::bits<long long>(x); }
EMULATED_INLINE double __longlong_as_double(long long x) { return emulated::bits<double>(x); }

EMULATED_INLINE int __popc(unsigned x) { return __builtin_popcount(x); }
EMULATED_INLINE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
EMULATED_INLINE int __clz(int x) { return x ? __builtin_clz(x) : 32; }
EMULATED_INLINE int __ffs(int x) { return __builtin_ffs(x); }
EMULATED_INLINE unsigned __brev(unsigned x) {
    unsigned result = 0;
    for (int i = 0; i < 32; i++) result |= (x >> i & 1) << (31 - i);
    return result;
}
EMULATED_INLINE int __mul24(int a, int b) { return a * b; }
EMULATED_INLINE unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
EMULATED_INLINE unsigned __byte_perm(unsigned a, unsigned b, unsigned selector) {
    uint64_t bytes = (uint64_t)b << 32 | a;
    unsigned result = 0;
    for (int i = 0; i < 4; i++)
        result |= (unsigned)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return result;
}

// Of floats, the number wins over NaN, as in CUDA.
template <class T, class U> constexpr std::common_type_t<T, U> min(T a, U b) {
    using C = std::common_type_t<T, U>;
    if constexpr (std::is_floating_point_v<C>) return std::fmin((C)a, (C)b);
    else return (C)b < (C)a ? (C)b : (C)a;
}
template <class T, class U> constexpr std::common_type_t<T, U> max(T a, U b) {
    using C = std::common_type_t<T, U>;
    if constexpr (std::is_floating_point_v<C>) return std::fmax((C)a, (C)b);
    else return (C)a < (C)b ? (C)b : (C)a;
}
