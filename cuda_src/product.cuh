// A matrix product in CUDA cores by tiles: Y(m, n) = sum over k of A(m, k) B(n, k).
//
// A and B are functions of (row, k) that give floats; `store(m, n, y)` takes a result. Which index
// neighbouring threads should take, so that they read neighbouring addresses, is a constant:
// k where a row of the matrix is contiguous, else the row. The sum over k runs in order, in one
// thread, whatever the tile: results do not depend on it.
#pragma once
#include "common.cuh"

// A block of TILE x TILE threads; each owns one element of a TILE x TILE tile of Y.
template <int TILE, bool A_BY_K, bool B_BY_K, class A, class B, class Store>
__device__ inline void product_shared(int M, int N, int K, A a, B b, Store store) {
    __shared__ float at[TILE][TILE + 1], bt[TILE][TILE + 1];  // [row][k]; + 1: no bank twice
    int across = (N + TILE - 1) / TILE, x = threadIdx.x % TILE, y = threadIdx.x / TILE;
    int m0 = blockIdx.x / across * TILE, n0 = blockIdx.x % across * TILE;
    int am = A_BY_K ? y : x, ak = A_BY_K ? x : y, bn = B_BY_K ? y : x, bk = B_BY_K ? x : y;
    float sum = 0.0f;
    for (int k0 = 0; k0 < K; k0 += TILE) {
        at[am][ak] = m0 + am < M && k0 + ak < K ? a(m0 + am, k0 + ak) : 0.0f;
        bt[bn][bk] = n0 + bn < N && k0 + bk < K ? b(n0 + bn, k0 + bk) : 0.0f;
        __syncthreads();
        int end = min(TILE, K - k0);  // zeros beyond would turn an infinity into NaN
        for (int k = 0; k < end; k++) sum = fmaf(at[y][k], bt[x][k], sum);
        __syncthreads();
    }
    if (m0 + y < M && n0 + x < N) store(m0 + y, n0 + x, sum);
}

// A block of 256 threads makes a 128 x 128 tile of Y, 8 x 8 elements a thread: each number that is
// read from shared memory is used eight times. Thread (y, x) owns rows y + 16 i, columns x + 16 j.
constexpr int TILED = 128, DEPTH = 8, EACH = 8, THREADS = 256;
template <bool A_BY_K, bool B_BY_K, class A, class B, class Store>
__device__ inline void product_registers(int M, int N, int K, A a, B b, Store store) {
    __shared__ float at[DEPTH][TILED + 1], bt[DEPTH][TILED + 1];  // [k][row]
    int across = (N + TILED - 1) / TILED, t = threadIdx.x, x = t % 16, y = t / 16;
    int m0 = blockIdx.x / across * TILED, n0 = blockIdx.x % across * TILED;
    float sum[EACH][EACH] = {};
    for (int k0 = 0; k0 < K; k0 += DEPTH) {
#pragma unroll
        for (int i = t; i < TILED * DEPTH; i += THREADS) {
            int am = A_BY_K ? i / DEPTH : i % TILED, ak = A_BY_K ? i % DEPTH : i / TILED;
            int bn = B_BY_K ? i / DEPTH : i % TILED, bk = B_BY_K ? i % DEPTH : i / TILED;
            at[ak][am] = m0 + am < M && k0 + ak < K ? a(m0 + am, k0 + ak) : 0.0f;
            bt[bk][bn] = n0 + bn < N && k0 + bk < K ? b(n0 + bn, k0 + bk) : 0.0f;
        }
        __syncthreads();
        int end = min(DEPTH, K - k0);
        for (int k = 0; k < end; k++) {
            float p[EACH], q[EACH];
#pragma unroll
            for (int i = 0; i < EACH; i++) p[i] = at[k][y + 16 * i], q[i] = bt[k][x + 16 * i];
#pragma unroll
            for (int i = 0; i < EACH; i++)
#pragma unroll
                for (int j = 0; j < EACH; j++) sum[i][j] = fmaf(p[i], q[j], sum[i][j]);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            int m = m0 + y + 16 * i, n = n0 + x + 16 * j;
            if (m < M && n < N) store(m, n, sum[i][j]);
        }
}
