// What every CUDA version shares: the types of the roles, numbers to float and back, 16-byte
// packets, reductions over a warp and a block. This file and ptx.cuh hold the only inline PTX.
#pragma once
#include <cuda_bf16.h>
#include <math.h>
#include <stdint.h>

// Roles as types (F activations, R residual stream, P parameters, G their gradients); the run says
// which (ported/precision.py). Without a run, as for a reader's own nvcc, they are float32.
#ifndef ROLE_F
#define ROLE_F float
#define ROLE_R float
#define ROLE_P float
#define ROLE_G float
#endif
using F = ROLE_F;
using R = ROLE_R;
using P = ROLE_P;
using G = ROLE_G;

// Shared memory whose size the launch says: DYNAMIC_SHARED(float, row); row[i] = ..
// Aligned to 128 bytes. One a kernel; the pointer may be divided by hand.
#ifndef EMULATED
#define DYNAMIC_SHARED(type, name)                                  \
    extern __shared__ __align__(128) unsigned char dynamic_shared[]; \
    type* name = reinterpret_cast<type*>(dynamic_shared)
#endif

constexpr unsigned FULL = 0xffffffffu;  // a shuffle mask: all 32 lanes

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
template <class T> __device__ inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x) { return x; }
template <> __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}

// 2^x in one instruction, good to 2 units in the last place; below 2^-126 it gives 0.
#ifdef EMULATED
inline float exp2_fast(float x) { return exp2f(x); }
#else
__device__ inline float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

// 1/x in one instruction, good to 1 unit in the last place; denormals count as 0.
#ifdef EMULATED
inline float reciprocal_fast(float x) { return 1.0f / x; }
#else
__device__ inline float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

// 16 bytes of T at once: 4 floats or 8 bfloat16. Addresses must be multiples of 16.
template <class T> struct alignas(16) Packet {
    static constexpr int size = 16 / sizeof(T);
    T at[size];
};
template <class T> __device__ inline Packet<T> load_packet(const T* from) {
    return *reinterpret_cast<const Packet<T>*>(from);
}
template <class T> __device__ inline void store_packet(T* to, const Packet<T>& packet) {
    *reinterpret_cast<Packet<T>*>(to) = packet;
}
// Whether packets may be read and written at every one of these addresses.
template <class... T> __device__ inline bool is_aligned(const T*... p) {
    return ((reinterpret_cast<uintptr_t>(p) | ...) % 16) == 0;
}
// The same for data that is read or written once: it should not push others out of the L2.
template <class T> __device__ inline Packet<T> load_packet_once(const T* from) {
    int4 bits = __ldcs(reinterpret_cast<const int4*>(from));
    return reinterpret_cast<const Packet<T>&>(bits);
}
template <class T> __device__ inline void store_packet_once(T* to, const Packet<T>& packet) {
    __stcs(reinterpret_cast<int4*>(to), reinterpret_cast<const int4&>(packet));
}

// 16 bytes past the first-level cache, the 256 around them into the L2 at once: for what is read
// once, in order.
#ifdef EMULATED
inline int4 load_past(const int4* from) { return __ldcs(from); }
#else
__device__ inline int4 load_past(const int4* from) {
    int4 bits;
    asm volatile("ld.global.L1::no_allocate.L2::256B.v4.s32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w) : "l"(from));
    return bits;
}
#endif

// What the compiler has made of `word` it must make again from here on, instead of holding it: the
// halves of a pair of bfloat16 take two registers for one.
#ifdef EMULATED
inline void make_again(unsigned&) {}
#else
__device__ inline void make_again(unsigned& word) { asm volatile("" : "+r"(word)); }
#endif

// Sums and maxima over the 32 lanes of a warp; every lane gets the result. A butterfly: the order
// of additions is the same in every lane and every run.
__device__ inline float warp_sum(float x) {
    for (int away = 16; away > 0; away /= 2) x += __shfl_xor_sync(FULL, x, away);
    return x;
}
// NaN wins, as in the mathematics (fmaxf would drop it).
__device__ inline float max_nan(float a, float b) { return a > b || isnan(a) ? a : b; }
__device__ inline float warp_max(float x) {
    for (int away = 16; away > 0; away /= 2) x = max_nan(x, __shfl_xor_sync(FULL, x, away));
    return x;
}

// Over all threads of a block of whole warps; every thread gets the result. `room`: 32 floats of
// shared memory. Ends with a barrier, so that `room` may be used again at once.
__device__ inline float block_sum(float x, float* room) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_sum(x);
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = warp_sum(lane < warps ? room[lane] : 0.0f);
    __syncthreads();
    return x;
}
__device__ inline float block_max(float x, float* room) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = warp_max(x);
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = warp_max(lane < warps ? room[lane] : -INFINITY);
    __syncthreads();
    return x;
}
