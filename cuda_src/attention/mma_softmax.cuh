// The running softmax of flash attention, on scores as tensor cores leave them (mma_tiles.cuh).
#pragma once
#include "mma_tiles.cuh"

constexpr int KEYS = 64, SCORES = KEYS / 8;

struct Running {  // of rows g and g + 8 of each fragment; sums are this lane's own part
    float max[M][2], sum[M][2], acc[M][2 * STEPS][4];
};

// Takes scores of the keys from `key` on into the running softmax; s becomes their weights, in
// units of log 2. `row`: the position of this lane's first query; `power`: 2^x.
template <bool edge, class Power>
__device__ __forceinline__ void soften(Running& to, float (&s)[M][SCORES][4], float scale, int row,
                                       int key, Power power) {
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int m = i / 2, e = i % 2;
        float larger = -INFINITY;
        for (int n = 0; n < SCORES; n++) {
            for (int j = 2 * e; j < 2 * e + 2; j++) {
                if (edge && key + 8 * n + lane() % 4 * 2 + j % 2 > row + 16 * m + 8 * e)
                    s[m][n][j] = -INFINITY;
                larger = fmaxf(larger, s[m][n][j]);  // may step over a NaN: the sum will not
            }
        }
        larger = fmaxf(larger, __shfl_xor_sync(FULL, larger, 1));
        larger = fmaxf(larger, __shfl_xor_sync(FULL, larger, 2));
        larger = fmaxf(to.max[m][e], larger * scale);
        float base = larger == -INFINITY ? 0.0f : larger, sum = 0.0f;
        float before = power(to.max[m][e] - base);
        for (int n = 0; n < SCORES; n++) {
            for (int j = 2 * e; j < 2 * e + 2; j++) {
                s[m][n][j] = power(fmaf(s[m][n][j], scale, -base));
                sum += s[m][n][j];
            }
        }
        to.sum[m][e] = to.sum[m][e] * before + sum;
        to.max[m][e] = larger;
        for (int n = 0; n < 2 * STEPS; n++)
            for (int j = 2 * e; j < 2 * e + 2; j++) to.acc[m][n][j] *= before;
    }
}

// The result and lse of a warp's rows, the block's first one at `out` and `lse`; `left` exist.
__device__ __forceinline__ void finish(F* out, float* lse, Running& mine, size_t C, int left,
                                       bool pairs) {
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int m = i / 2, e = i % 2, r = 16 * (M * warp() + m) + lane() / 4 + 8 * e;
        float sum = mine.sum[m][e];
        sum += __shfl_xor_sync(FULL, sum, 1);
        sum += __shfl_xor_sync(FULL, sum, 2);
        float share = 1.0f / sum;
        for (int n = 0; n < 2 * STEPS; n++)
            for (int j = 2 * e; j < 2 * e + 2; j++) mine.acc[m][n][j] *= share;
        if (r < left && lane() % 4 == 0) lse[r] = (mine.max[m][e] + log2f(sum)) * LN_2;
    }
    store_rows(out, C, left, pairs, mine.acc);
}
