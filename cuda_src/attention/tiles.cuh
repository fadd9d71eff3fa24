// Tiles of one head in shared memory, in float32, and their products on CUDA cores. 128 threads as
// 16 x 8 (y, x): of a product of 16 EACH rows with 64 columns thread (y, x) owns rows y + 16 i and
// columns x + 8 j; of a product with D columns, channels 4 x + 32 j and the three behind. A row's 8
// threads lie in one warp. The file that takes this in gives D.
#pragma once
#include "common.cuh"

constexpr int THREADS = 128, TILE = 64;              // TILE: columns of scores
constexpr int PARTS = (D + 31) / 32;                 // groups of 32 channels
constexpr int WIDE = 32 * PARTS + 4;                 // a row of channels: 8 of them meet every bank
constexpr int ROW = TILE + 4;                        // a row of weights
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

__device__ __forceinline__ int thread_x() { return threadIdx.x % 8; }
__device__ __forceinline__ int thread_y() { return threadIdx.x / 8; }

// `rows` rows of D numbers, `stride` apart, as float; zeros from row `left` and channel D on.
// `packed`: whole packets of 16 bytes may be read.
template <int rows>
__device__ __forceinline__ void load_tile(float* tile, const F* from, size_t stride, int left,
                                          bool packed) {
    constexpr int size = Packet<F>::size, own = D % size ? 1 : D / size;
    if (D % size == 0 && packed) {
        for (int i = threadIdx.x; i < rows * own; i += THREADS) {
            int r = i / own, c = i % own * size;
            Packet<F> x = {};
            if (r < left) x = load_packet(from + r * stride + c);
            for (int e = 0; e < size; e++) tile[r * WIDE + c + e] = to_float(x.at[e]);
        }
        constexpr int rest = 32 * PARTS - D;
        for (int i = threadIdx.x; i < rows * rest; i += THREADS)
            tile[i / (rest + !rest) * WIDE + D + i % (rest + !rest)] = 0.0f;
    } else {
        for (int i = threadIdx.x; i < rows * 32 * PARTS; i += THREADS) {
            int r = i / (32 * PARTS), c = i % (32 * PARTS);
            tile[r * WIDE + c] = r < left && c < D ? to_float(from[r * stride + c]) : 0.0f;
        }
    }
}

__device__ __forceinline__ float4 four(const float* at) {
    return *reinterpret_cast<const float4*>(at);
}

// s[i][j] = row y + 16 i of a times row x + 8 j of b, D terms from the first to the last.
template <int EACH>
__device__ __forceinline__ void dot_rows(float (&s)[EACH][8], const float* a, const float* b) {
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < 8; j++) s[i][j] = 0.0f;
#pragma unroll 1
    for (int d = 0; d < D; d += 4) {
        float4 u[EACH], w[8];
        for (int i = 0; i < EACH; i++) u[i] = four(a + (thread_y() + 16 * i) * WIDE + d);
        for (int j = 0; j < 8; j++) w[j] = four(b + (thread_x() + 8 * j) * WIDE + d);
        for (int i = 0; i < EACH; i++) {
            for (int j = 0; j < 8; j++) {
                s[i][j] += u[i].x * w[j].x;
                s[i][j] += u[i].y * w[j].y;
                s[i][j] += u[i].z * w[j].z;
                s[i][j] += u[i].w * w[j].w;
            }
        }
    }
}

template <int EACH>
__device__ __forceinline__ void store_weights(float* tile, const float (&p)[EACH][8]) {
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < 8; j++)
            tile[(thread_y() + 16 * i) * ROW + thread_x() + 8 * j] = p[i][j];
}

// acc[i][:] += sum over n < TILE of weights[y + 16 i][n] * rows[n][:], n ascending. On the edge
// only terms that `sees(i, n)` are added: 0 times NaN would be NaN.
template <bool edge, int EACH, class Sees>
__device__ __forceinline__ void add_weighted(float (&acc)[EACH][4 * PARTS], const float* weights,
                                             const float* rows, Sees sees) {
#pragma unroll 1
    for (int n = 0; n < TILE; n += 4) {
        float4 w[EACH];
        for (int i = 0; i < EACH; i++) w[i] = four(weights + (thread_y() + 16 * i) * ROW + n);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            for (int j = 0; j < PARTS; j++) {
                float4 v = four(rows + (n + e) * WIDE + 4 * thread_x() + 32 * j);
                for (int i = 0; i < EACH; i++) {
                    float x = e == 0 ? w[i].x : e == 1 ? w[i].y : e == 2 ? w[i].z : w[i].w;
                    if (edge && !sees(i, n + e)) continue;
                    acc[i][4 * j] += x * v.x;
                    acc[i][4 * j + 1] += x * v.y;
                    acc[i][4 * j + 2] += x * v.z;
                    acc[i][4 * j + 3] += x * v.w;
                }
            }
        }
    }
}

// Rows y + 16 i of `acc` to global memory; rows from `left` on do not exist.
template <int EACH>
__device__ __forceinline__ void store_rows(F* to, size_t stride, int left,
                                           const float (&acc)[EACH][4 * PARTS]) {
    for (int i = 0; i < EACH; i++) {
        int r = thread_y() + 16 * i;
        for (int c = 0; c < 4 * PARTS; c++) {
            int d = 4 * thread_x() + 32 * (c / 4) + c % 4;
            if (r < left && d < D) to[r * stride + d] = from_float<F>(acc[i][c]);
        }
    }
}
