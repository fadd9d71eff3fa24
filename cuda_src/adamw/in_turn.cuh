// A block's numbers wait in shared memory, fours a block's width apart, and are stored in turn: all
// of one array before the first of the next. Stores that go from array to array with every four
// take 0.5 % longer on an H200; a likely reason is that the memory keeps few rows open at a time.
//
// The step's powers are each warp's own, worked out while the numbers are on their way.
#pragma once
#include "adamw/step.cuh"
#include "ptx.cuh"

// x^t, 0 < x < 1, by squaring: off by t 2^-53 of itself at most, and t x^t, which is what matters
// to 1 - x^t, stays below 1 / (1 - x) for every t.
__device__ inline double power(double x, int t) {
    double found = 1.0;
    for (; t > 0; t >>= 1, x *= x)
        if (t & 1) found *= x;
    return found;
}

// As step_at, for a whole warp: even lanes work out one power, odd ones the other.
__device__ inline Step step_of_warp(float lr, int t, float scale, double beta1, double beta2,
                                    double eps, double weight_decay) {
    bool odd = threadIdx.x % 2;
    double c = 1.0 - power(odd ? beta2 : beta1, t);
    Pair mine = split(odd ? 1.0 / sqrt(c) : lr / c);
    Pair rate = {__shfl_sync(FULL, mine.high, 0), __shfl_sync(FULL, mine.low, 0)};
    Pair root = {__shfl_sync(FULL, mine.high, 1), __shfl_sync(FULL, mine.low, 1)};
    return {split(beta1), split(1.0 - beta1), split(beta2), split(1.0 - beta2), rate, root,
            (float)eps, scale, lr * weight_decay};
}

// PACKS fours a thread, a block's width apart: number k of this thread's, counted from the block's.
constexpr int TILE = block * PACKS;
__device__ inline int four_of(int k) { return k * block + threadIdx.x; }

// Asks for this thread's fours, `left` in all from the block's first on.
__device__ inline void ask(Four<float> (&tile)[TILE], const float* from, int64_t left) {
#pragma unroll
    for (int k = 0; k < PACKS; k++)
        if (four_of(k) < left) copy_async_16(&tile[four_of(k)], from + four_of(k) * 4);
}
// Stores them when the whole block has come here.
__device__ inline void store_in_turn(float* to, const Four<float> (&tile)[TILE], int64_t left) {
    __syncthreads();
#pragma unroll
    for (int k = 0; k < PACKS; k++)
        if (four_of(k) < left) store_four(to + four_of(k) * 4, tile[four_of(k)]);
}
