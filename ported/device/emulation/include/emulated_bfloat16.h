// What cuda_bf16.h has for GPUs only: computed in float32 and rounded once, which for these
// functions is the correctly rounded result, or within its last place (CUDA Math API, bfloat16).
#pragma once

EMULATED_INLINE __nv_bfloat16 __hfma(__nv_bfloat16 a, __nv_bfloat16 b, __nv_bfloat16 c) {
    return __double2bfloat16((double)__bfloat162float(a) * __bfloat162float(b) +
                             __bfloat162float(c));
}
EMULATED_INLINE __nv_bfloat162 __hfma2(__nv_bfloat162 a, __nv_bfloat162 b, __nv_bfloat162 c) {
    return __nv_bfloat162(__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y));
}
// name(bfloat16), and h2name of a pair
#define EMULATED_BFLOAT16(name, pair_name, function)                                  \
    EMULATED_INLINE __nv_bfloat16 name(__nv_bfloat16 x) {                             \
        return __float2bfloat16_rn(function(__bfloat162float(x)));                    \
    }                                                                                 \
    EMULATED_INLINE __nv_bfloat162 pair_name(__nv_bfloat162 x) {                      \
        return __nv_bfloat162(name(x.x), name(x.y));                                  \
    }
EMULATED_BFLOAT16(hexp, h2exp, expf)
EMULATED_BFLOAT16(hexp2, h2exp2, exp2f)
EMULATED_BFLOAT16(hlog, h2log, logf)
EMULATED_BFLOAT16(hlog2, h2log2, log2f)
EMULATED_BFLOAT16(hsqrt, h2sqrt, sqrtf)
EMULATED_BFLOAT16(hrsqrt, h2rsqrt, rsqrtf)
EMULATED_BFLOAT16(hrcp, h2rcp, __frcp_rn)
EMULATED_BFLOAT16(hsin, h2sin, sinf)
EMULATED_BFLOAT16(hcos, h2cos, cosf)
EMULATED_BFLOAT16(htanh, h2tanh, tanhf)
EMULATED_BFLOAT16(hfloor, h2floor, floorf)
EMULATED_BFLOAT16(hceil, h2ceil, ceilf)
EMULATED_BFLOAT16(hrint, h2rint, rintf)
EMULATED_BFLOAT16(htrunc, h2trunc, truncf)
