// A matrix product of bfloat16 in tensor cores: Y(m, n) = sum over k of A(m, k) B(n, k), float32
// sums. A block of 256 threads makes a 128 x 128 tile of Y, each of its 8 warps 64 x 32; tiles of
// A and B, 32 deep, come by asynchronous copies, three of them on their way or in use at a time.
//
// A matrix is stored with k contiguous (BY_K: a row of it is a row in memory) or with its rows
// contiguous (its transpose lies in memory); `ldmatrix` transposes on the way where that is needed.
#pragma once
#include "ptx.cuh"

constexpr int MMA_TILE = 128, MMA_DEPTH = 32, MMA_STAGES = 3, MMA_THREADS = 256;
constexpr int MMA_PITCH_K = MMA_DEPTH + 8, MMA_PITCH_ROW = MMA_TILE + 8;  // no bank twice
constexpr int MMA_PLACE = MMA_TILE * MMA_PITCH_K;  // elements of one tile, the larger of the forms
constexpr int MMA_SHARED = 2 * MMA_STAGES * MMA_PLACE * 2;  // bytes of a block: 61 440

// Brings the tile at (row0, k0) of a rows x K matrix; zeros beyond its edges. `whole`: packets of
// 16 bytes never straddle an edge and are aligned.
template <bool BY_K>
__device__ inline void mma_bring(__nv_bfloat16* tile, const __nv_bfloat16* from, int row0, int k0,
                                 int rows, int K, bool whole) {
    constexpr int across = (BY_K ? MMA_DEPTH : MMA_TILE) / 8;
    size_t stride = BY_K ? K : rows;
    for (int i = threadIdx.x; i < MMA_TILE * MMA_DEPTH / 8; i += MMA_THREADS) {
        int line = i / across, at = i % across * 8;
        int row = row0 + (BY_K ? line : at), k = k0 + (BY_K ? at : line);
        __nv_bfloat16* to = tile + line * (BY_K ? MMA_PITCH_K : MMA_PITCH_ROW) + at;
        const __nv_bfloat16* source = from + (BY_K ? row * stride + k : k * stride + row);
        if (whole) {
            bool inside = row < rows && k < K;
            copy_async_16(to, inside ? source : from, inside);
        } else {
            for (int e = 0; e < 8; e++) {
                bool inside = row + (BY_K ? 0 : e) < rows && k + (BY_K ? e : 0) < K;
                to[e] = inside ? source[e] : __float2bfloat16_rn(0.0f);
            }
        }
    }
}

// Blocks first..last of 32 along k, for the block's tile at (m0, n0); `store(m, n, y)`.
template <bool A_BY_K, bool B_BY_K, class Store>
__device__ inline void product_mma(const __nv_bfloat16* a, const __nv_bfloat16* b, int M, int N,
                                   int K, int m0, int n0, int first, int last, Store store) {
    DYNAMIC_SHARED(__nv_bfloat16, room);
    auto a_tile = [&](int stage) { return room + 2 * (stage % MMA_STAGES) * MMA_PLACE; };
    auto b_tile = [&](int stage) { return a_tile(stage) + MMA_PLACE; };
    bool a_whole = (A_BY_K ? K : M) % 8 == 0 && is_aligned(a);
    bool b_whole = (B_BY_K ? K : N) % 8 == 0 && is_aligned(b);
    auto bring = [&](int stage) {
        if (stage < last) {
            mma_bring<A_BY_K>(a_tile(stage), a, m0, stage * MMA_DEPTH, M, K, a_whole);
            mma_bring<B_BY_K>(b_tile(stage), b, n0, stage * MMA_DEPTH, N, K, b_whole);
        }
        copy_async_commit();  // an empty group too, so that the count of groups holds
    };
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int wm = warp / 4 * 64, wn = warp % 4 * 32;  // the warp's place in the tile
    float y[4][4][4] = {};                       // 4 x 4 pieces of 16 x 8
    for (int s = 0; s < MMA_STAGES - 1; s++) bring(first + s);
    for (int stage = first; stage < last; stage++) {
        copy_async_wait<MMA_STAGES - 2>();
        __syncthreads();  // this stage has landed for all, and all have done with the last one
        bring(stage + MMA_STAGES - 1);
        const __nv_bfloat16 *at = a_tile(stage), *bt = b_tile(stage);
#pragma unroll
        for (int k = 0; k < MMA_DEPTH; k += 16) {
            unsigned p[4][4], q[2][4];
#pragma unroll
            for (int i = 0; i < 4; i++) {  // matrices: rows 0-7, 8-15 at k 0-7, then at k 8-15
                int m = wm + 16 * i;
                if (A_BY_K)
                    load_matrix_4(p[i], at + (m + lane % 16) * MMA_PITCH_K + k + lane / 16 * 8);
                else
                    load_matrix_4_transposed(p[i], at + (k + lane / 16 * 8 + lane % 8) *
                                             MMA_PITCH_ROW + m + lane / 8 % 2 * 8);
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {  // columns 0-7 at k 0-7 and 8-15, then columns 8-15
                int n = wn + 16 * j;
                if (B_BY_K)
                    load_matrix_4(q[j], bt + (n + lane / 16 * 8 + lane % 8) * MMA_PITCH_K + k +
                                  lane / 8 % 2 * 8);
                else
                    load_matrix_4_transposed(q[j], bt + (k + lane / 8 % 2 * 8 + lane % 8) *
                                             MMA_PITCH_ROW + n + lane / 16 * 8);
            }
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    unsigned pair[2] = {q[j / 2][j % 2 * 2], q[j / 2][j % 2 * 2 + 1]};
                    mma_16x8x16(y[i][j], p[i], pair);
                }
        }
    }
    copy_async_wait<0>();
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int m = m0 + wm + 16 * i + lane / 4 + e / 2 * 8;
                int n = n0 + wn + 8 * j + lane % 4 * 2 + e % 2;
                if (m < M && n < N) store(m, n, y[i][j][e]);
            }
}
