// A matrix product of bfloat16 in tensor cores, as product_mma.cuh's, on wider warp tiles: a warp
// makes 64 x 64 of Y, so that a fragment read from shared memory serves 4 or 8 multiplications, and
// what shared memory gives and tensor cores take is in balance. Fragments of the next step of 16
// are read while these are multiplied. A block of 128 threads makes 128 x 128, one of 256 threads
// 128 x 256. Blocks go through the tiles in groups of GROUP rows of tiles, so that those at work at
// one time share what they read in the L2. The file that takes this in gives `block`.
#pragma once
#include "ptx.cuh"

constexpr int WIDE_M = 128, WIDE_N = block, WIDE_DEPTH = 32, WIDE_STAGES = 4, WIDE_GROUP = 8;
constexpr int WIDE_PITCH = WIDE_DEPTH + 8;  // no bank twice
// Elements of one tile, in the larger of its two forms; a block has WIDE_STAGES of A and of B.
template <int rows> constexpr int WIDE_PLACE = rows * WIDE_PITCH;
constexpr int WIDE_STAGE = WIDE_PLACE<WIDE_M> + WIDE_PLACE<WIDE_N>;

// Brings the tile at (row0, k0) of a rows x K matrix; zeros beyond its edges. `whole`: packets of
// 16 bytes never straddle an edge and are aligned.
template <bool BY_K, int TILE>
__device__ __forceinline__ void wide_bring(__nv_bfloat16* tile, const __nv_bfloat16* from,
                                           int row0, int k0, int rows, int K, bool whole) {
    constexpr int across = (BY_K ? WIDE_DEPTH : TILE) / 8, pitch = BY_K ? WIDE_PITCH : TILE + 8;
    constexpr int lines = block / across, depth = BY_K ? TILE : WIDE_DEPTH;  // in memory
    int line = threadIdx.x / across, at = threadIdx.x % across * 8;
    int first = (BY_K ? row0 : k0) + line, column = (BY_K ? k0 : row0) + at;
    int end = BY_K ? rows : K, wide = BY_K ? K : rows;
    const __nv_bfloat16* source = from + (size_t)first * wide + column;
    __nv_bfloat16* to = tile + line * pitch + at;
    if (whole) {
#pragma unroll
        for (int j = 0; j < depth; j += lines) {
            bool inside = column < wide && first + j < end;
            copy_async_16(to + j * pitch, inside ? source + (size_t)j * wide : from, inside);
        }
    } else {
#pragma unroll 1
        for (int i = 0; i < depth / lines * 8; i++) {
            int j = i / 8 * lines, e = i % 8;
            bool inside = column + e < wide && first + j < end;
            to[j * pitch + e] = inside ? source[(size_t)j * wide + e] : __float2bfloat16_rn(0.0f);
        }
    }
}

// The i-th 16 rows from `row` on at the step `k` of a tile: the left factor, or the right one for
// 16 columns (numbers 0 and 1 are that of the first 8).
template <bool BY_K, int TILE>
__device__ __forceinline__ void wide_left(unsigned (&a)[4][4], int i, const __nv_bfloat16* tile,
                                          int row, int k) {
    int lane = threadIdx.x % 32, r = row + 16 * i;
    if (BY_K)
        load_matrix_4(a[i], tile + (r + lane % 16) * WIDE_PITCH + 16 * k + lane / 16 * 8);
    else
        load_matrix_4_transposed(a[i], tile + (16 * k + lane / 16 * 8 + lane % 8) * (TILE + 8) + r +
                                           lane / 8 % 2 * 8);
}
template <bool BY_K, int TILE>
__device__ __forceinline__ void wide_right(unsigned (&b)[4][4], int i, const __nv_bfloat16* tile,
                                           int row, int k) {
    int lane = threadIdx.x % 32, r = row + 16 * i;
    if (BY_K)
        load_matrix_4(b[i], tile + (r + lane / 16 * 8 + lane % 8) * WIDE_PITCH + 16 * k +
                                lane / 8 % 2 * 8);
    else
        load_matrix_4_transposed(b[i], tile + (16 * k + lane % 16) * (TILE + 8) + r +
                                           lane / 16 * 8);
}

// The tile of Y that block `i` of a tiles_m x tiles_n grid makes.
__device__ __forceinline__ int2 wide_place(int i, int tiles_m, int tiles_n) {
    int group = i / (WIDE_GROUP * tiles_n), first = group * WIDE_GROUP;
    int rows = min(WIDE_GROUP, tiles_m - first), rest = i % (WIDE_GROUP * tiles_n);
    return make_int2((first + rest % rows) * WIDE_M, rest / rows * WIDE_N);
}

// Y at (m0, n0), from blocks first..last of 32 along k. `store(m, n, y, z)` takes Y(m, n) and
// Y(m, n + 1), n even; beyond N the second is of no column.
template <bool A_BY_K, bool B_BY_K, class Store>
__device__ __forceinline__ void product_wide(const __nv_bfloat16* a, const __nv_bfloat16* b, int M,
                                             int N, int K, int m0, int n0, int first, int last,
                                             Store store) {
    DYNAMIC_SHARED(__nv_bfloat16, room);
    bool a_whole = (A_BY_K ? K : M) % 8 == 0 && is_aligned(a);
    bool b_whole = (B_BY_K ? K : N) % 8 == 0 && is_aligned(b);
    auto bring = [&](int stage) {
        __nv_bfloat16* to = room + stage % WIDE_STAGES * WIDE_STAGE;
        if (stage < last) {
            wide_bring<A_BY_K, WIDE_M>(to, a, m0, stage * WIDE_DEPTH, M, K, a_whole);
            wide_bring<B_BY_K, WIDE_N>(to + WIDE_PLACE<WIDE_M>, b, n0, stage * WIDE_DEPTH, N, K,
                                       b_whole);
        }
        copy_async_commit();  // an empty group too, so that the count of groups holds
    };
    int lane = threadIdx.x % 32, wm = threadIdx.x / 32 % 2 * 64, wn = threadIdx.x / 64 * 64;
    float y[4][8][4] = {};  // 4 x 8 pieces of 16 x 8
#pragma unroll 1
    for (int s = 0; s < WIDE_STAGES - 1; s++) bring(first + s);
#pragma unroll 1
    for (int stage = first; stage < last; stage++) {
        copy_async_wait<WIDE_STAGES - 2>();
        __syncthreads();  // this stage has landed for all, and all have done with the last one
        const __nv_bfloat16* at = room + stage % WIDE_STAGES * WIDE_STAGE;
        unsigned p[2][4][4], q[2][4][4];
        auto read = [&](int k) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                wide_left<A_BY_K, WIDE_M>(p[k], i, at, wm, k);
                wide_right<B_BY_K, WIDE_N>(q[k], i, at + WIDE_PLACE<WIDE_M>, wn, k);
            }
        };
        read(0);
        bring(stage + WIDE_STAGES - 1);
#pragma unroll
        for (int k = 0; k < WIDE_DEPTH / 16; k++) {
            if (k == 0) read(1);
#pragma unroll
            for (int i = 0; i < 32; i++) {
                int m = i / 8, n = i % 8;
                unsigned pair[2] = {q[k][n / 2][n % 2 * 2], q[k][n / 2][n % 2 * 2 + 1]};
                mma_16x8x16(y[m][n], p[k][m], pair);
            }
        }
    }
    copy_async_wait<0>();
#pragma unroll
    for (int i = 0; i < 64; i++) {
        int m = m0 + wm + i / 16 * 16 + lane / 4 + i % 2 * 8;
        int n = n0 + wn + i / 2 % 8 * 8 + lane % 4 * 2;
        const float* at = &y[i / 16][i / 2 % 8][i % 2 * 2];
        if (m < M && n < N) store((size_t)m, n, at[0], at[1]);
    }
}

// Two neighbours of a row of N numbers in memory, at column n, in one store where `pairs`.
template <class T> __device__ __forceinline__ bool wide_pairs(const T* to, int N) {
    return N % 2 == 0 && reinterpret_cast<uintptr_t>(to) % (2 * sizeof(T)) == 0;
}
__device__ __forceinline__ void wide_put(__nv_bfloat16* to, bool pairs, bool both, float y,
                                         float z) {
    if (pairs) {
        *reinterpret_cast<unsigned*>(to) = pack_bfloat16(y, z);
    } else {
        to[0] = __float2bfloat16_rn(y);
        if (both) to[1] = __float2bfloat16_rn(z);
    }
}
__device__ __forceinline__ void wide_put(float* to, bool pairs, bool both, float y, float z) {
    if (pairs) {
        *reinterpret_cast<float2*>(to) = make_float2(y, z);
    } else {
        to[0] = y;
        if (both) to[1] = z;
    }
}
