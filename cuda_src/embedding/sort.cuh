// Tokens sorted by value, equal ones in their order: radix sort by 8 bits at a time, two launches a
// digit. Every block has 256 threads, one a value of the digit, and takes TILE numbers.
// Stable, so that the result does not depend on the clock: ranks come from votes and sums in order.
// Source: Satish, Harris, Garland, "Designing efficient sorting algorithms for manycore GPUs",
// IPDPS 2009.
#pragma once
#include "common.cuh"

constexpr int DIGITS = 256, WARPS = DIGITS / 32;

// counts[tile, digit]: how many of the tile's numbers have that digit.
template <int TILE>
__device__ inline void count_digits(int* counts, const int* numbers, int64_t count, int shift) {
    __shared__ int found[DIGITS];
    int64_t start = (int64_t)blockIdx.x * TILE;
    found[threadIdx.x] = 0;
    __syncthreads();
    for (int64_t i = start + threadIdx.x; i < min(start + TILE, count); i += DIGITS) {
        atomicAdd(&found[numbers[i] >> shift & (DIGITS - 1)], 1);
    }
    __syncthreads();
    counts[(size_t)blockIdx.x * DIGITS + threadIdx.x] = found[threadIdx.x];
}

// The sum of x over the threads before this one. `room`: WARPS ints.
__device__ inline int sum_before(int x, int* room) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = x;
    for (int away = 1; away < 32; away *= 2) {
        int other = __shfl_up_sync(FULL, sum, away);
        if (lane >= away) sum += other;
    }
    if (lane == 31) room[warp] = sum;
    __syncthreads();
    for (int w = 0; w < warp; w++) sum += room[w];
    return sum - x;
}

// Where this tile's numbers of digit threadIdx.x begin in the sorted list.
__device__ inline int start_of_digit(const int* counts, int* room) {
    int before = 0, all = 0;
    for (int tile = 0; tile < gridDim.x; tile++) {
        int found = counts[(size_t)tile * DIGITS + threadIdx.x];
        before += tile < blockIdx.x ? found : 0;
        all += found;
    }
    return sum_before(all, room) + before;
}

// Numbers to where their digit puts them, and their places with them. `places_in` null: number i
// stands at place i.
template <int TILE>
__device__ inline void scatter(int* numbers_out, int* places_out, const int* numbers,
                               const int* places_in, const int* counts, int64_t count, int shift) {
    constexpr int ROUNDS = TILE / DIGITS;
    __shared__ int at[WARPS][DIGITS], room[WARPS];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int64_t start = (int64_t)blockIdx.x * TILE + warp * (TILE / WARPS) + lane;
    int number[ROUNDS], rank[ROUNDS];  // rank: equal digits before it in its warp's share
    for (int w = 0; w < WARPS; w++) at[w][threadIdx.x] = 0;
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        bool there = start + r * 32 < count;
        number[r] = there ? numbers[start + r * 32] : 0;
        int digit = there ? number[r] >> shift & (DIGITS - 1) : DIGITS;
        unsigned alike = __match_any_sync(FULL, digit);
        int first = __ffs(alike) - 1, earlier = 0;
        if (lane == first && there) {
            earlier = at[warp][digit];
            at[warp][digit] = earlier + __popc(alike);
        }
        rank[r] = __shfl_sync(FULL, earlier, first) + __popc(alike & ((1u << lane) - 1));
        __syncwarp();
    }
    __syncthreads();
    int begin = start_of_digit(counts, room);
    for (int w = 0; w < WARPS; w++) {
        int found = at[w][threadIdx.x];
        at[w][threadIdx.x] = begin;
        begin += found;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        int64_t i = start + r * 32;
        if (i < count) {
            int to = at[warp][number[r] >> shift & (DIGITS - 1)] + rank[r];
            numbers_out[to] = number[r];
            places_out[to] = places_in ? places_in[i] : (int)i;
        }
    }
}
