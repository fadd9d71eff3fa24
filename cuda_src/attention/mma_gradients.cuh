// What the visits of attention's backward on tensor cores share (mma_tiles.cuh).
#pragma once
#include "mma_tiles.cuh"

template <int value> struct Is {  // a number that a template can take from an argument
    static constexpr int number = value;
};

// Scores s, and dp from which delta is gone, become weights and the scores' gradients.
__device__ __forceinline__ void weigh(float& s, float& dp, bool seen, float base) {
    float p = exp2_fast(fmaf(s, LOG2_E / sqrtf(D), base));
    s = seen ? p : 0.0f;
    dp = seen ? p * dp : 0.0f;
}

__device__ __forceinline__ void store_scaled(F* to, size_t stride, int left, bool pairs,
                                             float (&acc)[M][2 * STEPS][4], float scale) {
#pragma unroll
    for (int i = 0; i < M * 8 * STEPS; i++)
        acc[i / (8 * STEPS)][i / 4 % (2 * STEPS)][i % 4] *= scale;
    store_rows(to, stride, left, pairs, acc);
}
