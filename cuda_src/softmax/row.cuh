// What softmax, cross_entropy and classifier share: a row in packets, its maximum and the sum of
// its exponentials in one pass.
#pragma once
#include "common.cuh"

// Columns c, c + 1, .. of a row, a packet of them; minus infinity from `end` on, which exp makes 0.
template <bool packed, class T>
__device__ inline Packet<T> load_columns(const T* row, int c, int end) {
    if (packed && c + Packet<T>::size <= end) return load_packet(row + c);
    Packet<T> some;
#pragma unroll
    for (int j = 0; j < Packet<T>::size; j++)
        some.at[j] = c + j < end ? row[c + j] : from_float<T>(-INFINITY);
    return some;
}
template <bool packed, class T>
__device__ inline void store_columns(T* row, int c, int end, const Packet<T>& some) {
    if (packed && c + Packet<T>::size <= end) return store_packet_once(row + c, some);
#pragma unroll
    for (int j = 0; j < Packet<T>::size; j++)
        if (c + j < end) row[c + j] = some.at[j];
}
// Whether rows of C columns are packets at these addresses.
template <class T, class... Others>
__device__ inline bool rows_in_packets(int C, const T* row, const Others*... others) {
    return C % Packet<T>::size == 0 && is_aligned(row, others...);
}

// exp(x) for a result of type T: what bfloat16 keeps of it needs one instruction for 2^x.
template <class T> __device__ inline float exponential(float x) { return expf(x); }
template <> __device__ inline float exponential<__nv_bfloat16>(float x) {
    return exp2_fast(x * 1.4426950408889634f);
}

// The maximum of some numbers, and the sum of exp(x - maximum) over them (Milakov, Gimelshein,
// "Online normalizer calculation for softmax", 2018, arXiv:1805.02867). The maximum steps over
// NaNs, the sum does not. None yet, or all minus infinity: {-infinity, 0}.
struct Online {
    float largest = -INFINITY, sum = 0.0f;
};
__device__ inline void take(Online& all, float x) {
    if (x > all.largest) {
        all.sum = all.sum * expf(all.largest - x) + 1.0f;
        all.largest = x;
    } else {
        all.sum += x > -INFINITY || isnan(x) ? expf(x - all.largest) : 0.0f;
    }
}
// A packet at a time: the sum is rescaled at most once for all of them.
template <class T> __device__ inline void take(Online& all, const Packet<T>& x) {
    float top = all.largest;
#pragma unroll
    for (int j = 0; j < Packet<T>::size; j++) top = fmaxf(top, to_float(x.at[j]));
    float shift = top > -INFINITY ? top : 0.0f;
    if (top > all.largest) all.sum *= expf(all.largest - top);
#pragma unroll
    for (int j = 0; j < Packet<T>::size; j++) all.sum += exponential<T>(to_float(x.at[j]) - shift);
    all.largest = top;
}
// Both together; the same whichever comes first.
__device__ inline Online joined(Online a, Online b) {
    Online high = a.largest >= b.largest ? a : b, low = a.largest >= b.largest ? b : a;
    float away = high.largest > -INFINITY ? low.largest - high.largest : 0.0f;
    return {high.largest, fmaf(low.sum, expf(away), high.sum)};
}
__device__ inline Online warp_joined(Online all) {
    for (int away = 16; away > 0; away /= 2) {
        all = joined(all, {__shfl_xor_sync(FULL, all.largest, away),
                           __shfl_xor_sync(FULL, all.sum, away)});
    }
    return all;
}
// Over a block of whole warps; every thread gets the result.
__device__ inline Online block_joined(Online all) {
    __shared__ float largest[32], sum[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    all = warp_joined(all);
    if (lane == 0) largest[warp] = all.largest, sum[warp] = all.sum;
    __syncthreads();
    all = lane < warps ? Online{largest[lane], sum[lane]} : Online{};
    all = warp_joined(all);
    __syncthreads();
    return all;
}
