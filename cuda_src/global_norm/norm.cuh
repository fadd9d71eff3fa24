// Sums of squares, and what becomes of them. Sums are doubles: the square of a large or a small
// float is no float. A part of the region leaves its norm, which always is one.
#pragma once
#include "common.cuh"

// Over all threads of a block of whole warps, in an order of its own; every thread gets the result.
__device__ inline double block_sum(double x) {
    __shared__ double room[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int away = 16; away > 0; away /= 2) x += __shfl_xor_sync(FULL, x, away);
    if (lane == 0) room[warp] = x;
    __syncthreads();
    x = lane < warps ? room[lane] : 0.0;
    for (int away = 16; away > 0; away /= 2) x += __shfl_xor_sync(FULL, x, away);
    __syncthreads();
    return x;
}

// The norm of parts whose norms are given, by all threads of a block.
__device__ inline double norm_of(const float* part, int parts) {
    double sum = 0.0;
    for (int i = threadIdx.x; i < parts; i += blockDim.x) {
        sum = fma((double)part[i], (double)part[i], sum);
    }
    return sqrt(block_sum(sum));
}

// By one thread. A NaN stays a NaN.
__device__ inline void finish(float* norm, float* scale, double length, double max_norm) {
    double clip = max_norm / (length + 1e-6);
    *norm = length;
    *scale = max_norm == 0.0 || clip >= 1.0 ? 1.0 : clip;
}

// The sum of squares of the four elements from `first` on, the four a `stride` behind them, and so
// on to the end: 16 bytes at once where addresses allow it, one by one else, in the same order.
// FOURS packets are asked for before the first is used.
template <bool packed, int FOURS>
__device__ inline double squares(const G* x, int64_t first, int64_t stride, int64_t count) {
    double sum[2] = {0.0, 0.0};
    for (int64_t start = first; start < count; start += FOURS * stride) {
        Packet<float> four[FOURS];
#pragma unroll
        for (int k = 0; k < FOURS; k++) {
            int64_t i = start + k * stride, left = count - i;
            if (packed && left >= 4) {
                four[k] = load_packet_once(x + i);
            } else {
#pragma unroll
                for (int j = 0; j < 4; j++) four[k].at[j] = j < left ? x[i + j] : 0.0f;
            }
        }
#pragma unroll
        for (int k = 0; k < FOURS; k++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                double one = four[k].at[j];
                sum[j % 2] = fma(one, one, sum[j % 2]);
            }
        }
    }
    return sum[0] + sum[1];
}
