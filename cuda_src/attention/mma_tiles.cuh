// Tiles of one head in shared memory, in bfloat16, and their products on tensor cores. Warp w of a
// block owns 16 M rows of a tile of 16 M rows a warp, in M fragments of 16; products run over steps
// of 16. Lane l, with g = l / 4 and c = l % 4, holds of every 16 x 8 piece of a result rows g and
// g + 8, columns 2 c and 2 c + 1 (ptx.cuh). The file that takes this in gives D, M and `block`.
#pragma once
#include "ptx.cuh"

using Number = __nv_bfloat16;
constexpr int OWN = block / 2 * M;    // rows of a block's own tile
constexpr int STEPS = (D + 15) / 16;  // of 16 channels
constexpr int WIDE = 16 * STEPS + 8;  // a row of a tile: 8 of them meet every bank
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

__device__ __forceinline__ int lane() { return threadIdx.x % 32; }
__device__ __forceinline__ int warp() { return threadIdx.x / 32; }

// `rows` rows of D numbers, `stride` apart; zeros from row `left` and channel D on. `packed`: D and
// the addresses are multiples of 16 bytes, and the copies are on their way until the next wait.
template <int rows> __device__ __forceinline__ void load_tile(Number* tile, const Number* from,
                                                     size_t stride, int left, bool packed) {
    if (packed) {
        constexpr int own = D / 8 > 0 ? D / 8 : 1, lines = block / own;
        int line = threadIdx.x / own, d = threadIdx.x % own * 8;
        const Number* source = from + line * stride + d;
#pragma unroll
        for (int j = 0; j < rows; j += lines) {
            int r = line + j;
            if (line >= lines || r >= rows) continue;
            copy_async_16(tile + r * WIDE + d, r < left ? source + j * stride : from, r < left);
        }
        if (D % 16 != 0)
            for (int i = threadIdx.x; i < rows * 8; i += block)
                tile[i / 8 * WIDE + D + i % 8] = from_float<Number>(0.0f);
    } else {
        for (int i = threadIdx.x; i < rows * 16 * STEPS; i += block) {
            int r = i / (16 * STEPS), d = i % (16 * STEPS);
            bool inside = r < left && d < D;
            tile[r * WIDE + d] = inside ? from[r * stride + d] : from_float<Number>(0.0f);
        }
    }
}

// Factors of one step. `rows_of`: 16 rows from `row`, channels of a step (the left factor).
// `columns_of`: 16 rows from `row` as columns of the right factor, channels of a step its rows.
// `across`: 16 rows from `row` as rows of the right factor, channels of a step its columns.
__device__ __forceinline__ void rows_of(unsigned (&a)[4], const Number* tile, int row, int step) {
    load_matrix_4(a, tile + (row + lane() % 16) * WIDE + 16 * step + lane() / 16 * 8);
}
__device__ __forceinline__ void columns_of(unsigned (&b)[2][2], const Number* tile, int row,
                                           int step) {
    unsigned r[4];
    load_matrix_4(r, tile + (row + lane() / 16 * 8 + lane() % 8) * WIDE + 16 * step +
                         lane() / 8 % 2 * 8);
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}
__device__ __forceinline__ void across(unsigned (&b)[2][2], const Number* tile, int row, int step) {
    unsigned r[4];
    load_matrix_4_transposed(r, tile + (row + lane() % 16) * WIDE + 16 * step + lane() / 16 * 8);
    b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

// s += the warp's rows times rows 0 to 8 N of `tile`, as columns: 16 M x 8 N scores. `factor(left,
// m, step)` gives the left factor of one step: from a tile, or as it lies in registers.
template <int N, class Factor>
__device__ __forceinline__ void add_dots(float (&s)[M][N][4], Factor factor, const Number* tile) {
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        unsigned left[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) factor(left[m], m, step);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned right[2][2];
            columns_of(right, tile, 8 * n, step);
#pragma unroll
            for (int m = 0; m < M; m++) {
                mma_16x8x16(s[m][n], left[m], right[0]);
                mma_16x8x16(s[m][n + 1], left[m], right[1]);
            }
        }
    }
}
template <int N>
__device__ __forceinline__ void add_dots(float (&s)[M][N][4], const Number* own,
                                         const Number* tile) {
    auto factor = [=](unsigned (&left)[4], int m, int step) {
        rows_of(left, own, 16 * (M * warp() + m), step);
    };
    add_dots(s, factor, tile);
}

// Weights of a 16 x 16 piece as the left factor of the next product.
__device__ __forceinline__ void as_factor(unsigned (&a)[4], const float (&low)[4],
                                          const float (&high)[4]) {
    a[0] = pack_bfloat16(low[0], low[1]), a[1] = pack_bfloat16(low[2], low[3]);
    a[2] = pack_bfloat16(high[0], high[1]), a[3] = pack_bfloat16(high[2], high[3]);
}

// Zero in place of numbers that are not finite; true where there was one.
__device__ __forceinline__ bool tame(unsigned& pair) {
    bool low = (pair & 0x7f80u) == 0x7f80u, high = (pair & 0x7f800000u) == 0x7f800000u;
    pair &= (low ? 0xffff0000u : ~0u) & (high ? 0x0000ffffu : ~0u);
    return low || high;
}

// What `tame` took out, given back to the rows that see it. Rare, and slow.
template <int N, class Apart, class Sees>
__device__ __forceinline__ void give_back(float (&acc)[M][2 * STEPS][4], const Number* tile,
                                          Apart apart, Sees sees) {
#pragma unroll 1
    for (int row = 0; row < 8 * N; row++) {
        const Number* at = tile + row * WIDE + lane() % 4 * 2;
#pragma unroll
        for (int i = 0; i < M * 8 * STEPS; i++) {
            int m = i / (8 * STEPS), n = i / 4 % (2 * STEPS), e = i % 4;
            float x = to_float(at[8 * n + e % 2]);
            if (!(fabsf(x) < INFINITY) && apart(m, row / 16) == 0 &&
                sees(lane() / 4 + e / 2 * 8, row % 16))
                acc[m][n][e] += x;
        }
    }
}

// acc[m] += weights[m] (16 x 8 N) times the rows of `tile`. On the `edge`, where the tile has rows
// that a row of the result must not see, not even as 0 times NaN: `apart(m, n)` is the distance of
// fragment m from the n-th 16 rows of the tile, in 16 positions and in the direction of what is
// seen; negative: nothing is seen, 0: the triangle `sees`, positive: everything.
template <bool edge, int N, class Apart, class Sees>
__device__ __forceinline__ void add_weighted(float (&acc)[M][2 * STEPS][4],
                                             const float (&weights)[M][N][4], const Number* tile,
                                             Apart apart, Sees sees) {
    bool wild = false;
#pragma unroll
    for (int n = 0; n < N / 2; n++) {
        unsigned left[M][4];
        for (int m = 0; m < M; m++)
            as_factor(left[m], weights[m][2 * n], weights[m][2 * n + 1]);
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            unsigned right[2][2];
            across(right, tile, 16 * n, step);
#pragma unroll
            for (int m = 0; m < M; m++) {
                int away = edge ? apart(m, n) : 1;
                if (away > 0) {
                    mma_16x8x16(acc[m][2 * step], left[m], right[0]);
                    mma_16x8x16(acc[m][2 * step + 1], left[m], right[1]);
                } else if (away == 0) {
                    unsigned calm[2][2];
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        calm[i / 2][i % 2] = right[i / 2][i % 2];
                        wild |= tame(calm[i / 2][i % 2]);
                    }
                    mma_16x8x16(acc[m][2 * step], left[m], calm[0]);
                    mma_16x8x16(acc[m][2 * step + 1], left[m], calm[1]);
                }
            }
        }
    }
    if (edge && __any_sync(FULL, wild)) give_back<N>(acc, tile, apart, sees);
}

// A warp's rows of a result to global memory, row 0 of the tile at `to`; from `left` on there are
// none. `pairs`: two numbers may be written at once.
__device__ __forceinline__ void store_rows(Number* to, size_t stride, int left, bool pairs,
                                  const float (&acc)[M][2 * STEPS][4]) {
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
            int r = 16 * (M * warp() + m) + lane() / 4 + e * 4;
            if (r >= left) continue;
#pragma unroll
            for (int n = 0; n < 2 * STEPS; n++) {
                int d = 8 * n + lane() % 4 * 2;
                Number* at = to + r * stride + d;
                if (pairs) {
                    if (d < D)
                        *reinterpret_cast<unsigned*>(at) = pack_bfloat16(acc[m][n][e],
                                                                         acc[m][n][e + 1]);
                } else {
                    if (d < D) at[0] = from_float<Number>(acc[m][n][e]);
                    if (d + 1 < D) at[1] = from_float<Number>(acc[m][n][e + 1]);
                }
            }
        }
    }
}
