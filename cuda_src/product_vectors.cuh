// A matrix product in CUDA cores, as product.cuh's register tiles, but accesses to memory are of 16
// bytes: Y(m, n) = sum over k of A(m, k) B(n, k), float32 sums. A block of 256 threads makes 128 by
// 128, a warp 32 x 64, a thread 8 x 8; a warp's reads of shared memory are one line of 128 bytes or
// less. The next tiles are on their way, in registers, while these are used, and go into a second
// buffer, so that there is one barrier a tile.
#pragma once
#include "common.cuh"

constexpr int VECTOR_TILE = 128, VECTOR_DEPTH = 16, VECTOR_PITCH = VECTOR_TILE + 4;
constexpr int VECTOR_BLOCK = 256, VECTOR_BUFFER = 2 * VECTOR_DEPTH * VECTOR_PITCH;

// This thread's packets of the tile at (row0, k0) of a rows x K matrix; zeros beyond the edges.
// BY_K: a row of the matrix is a row in memory; otherwise its transpose lies there.
template <bool BY_K, class T> struct VectorPart {
    static constexpr int size = Packet<T>::size;
    static constexpr int across = (BY_K ? VECTOR_DEPTH : VECTOR_TILE) / size;
    static constexpr int count = VECTOR_TILE * VECTOR_DEPTH / size / VECTOR_BLOCK;
    Packet<T> packets[count];

    __device__ __forceinline__ void load(const T* from, int row0, int k0, int rows, int K,
                                         bool whole) {
        int wide = BY_K ? K : rows, end = BY_K ? rows : K;
#pragma unroll
        for (int j = 0; j < count; j++) {
            int i = threadIdx.x + j * VECTOR_BLOCK;
            int line = (BY_K ? row0 : k0) + i / across, at = (BY_K ? k0 : row0) + i % across * size;
            const T* source = from + (size_t)line * wide + at;
            if (whole && line < end && at < wide) {
                packets[j] = load_packet(source);
            } else {
#pragma unroll
                for (int e = 0; e < size; e++) {
                    bool inside = line < end && at + e < wide;
                    packets[j].at[e] = inside ? source[e] : from_float<T>(0.0f);
                }
            }
        }
    }

    // To shared memory as float, [k][row].
    __device__ __forceinline__ void store(float* tile) const {
#pragma unroll
        for (int j = 0; j < count; j++) {
            int i = threadIdx.x + j * VECTOR_BLOCK, line = i / across, at = i % across * size;
#pragma unroll
            for (int e = 0; e < size; e++)
                tile[BY_K ? (at + e) * VECTOR_PITCH + line : line * VECTOR_PITCH + at + e] =
                    to_float(packets[j].at[e]);
        }
    }
};

// Y at (m0, n0), tiles first..last of 16 along k. `store(m, n, y)` takes four columns from n on,
// a multiple of 4; what is beyond N is of no column.
template <bool A_BY_K, bool B_BY_K, class TA, class TB, class Store>
__device__ __forceinline__ void product_vectors(const TA* a, const TB* b, int M, int N, int K,
                                                int m0, int n0, int first, int last,
                                                Store store) {
    __shared__ __align__(16) float room[2 * VECTOR_BUFFER];
    bool a_whole = (A_BY_K ? K : M) % Packet<TA>::size == 0 && is_aligned(a);
    bool b_whole = (B_BY_K ? K : N) % Packet<TB>::size == 0 && is_aligned(b);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int row = warp / 2 * 32 + lane / 8 * 4, column = warp % 2 * 64 + lane % 8 * 4;
    VectorPart<A_BY_K, TA> next_a;
    VectorPart<B_BY_K, TB> next_b;
    float y[8][8] = {};
    auto bring = [&](int tile) {
        next_a.load(a, m0, tile * VECTOR_DEPTH, M, K, a_whole);
        next_b.load(b, n0, tile * VECTOR_DEPTH, N, K, b_whole);
    };
    if (first < last) bring(first);
#pragma unroll 1
    for (int tile = first; tile < last; tile++) {
        float* at = room + (tile - first) % 2 * VECTOR_BUFFER;
        float* bt = at + VECTOR_DEPTH * VECTOR_PITCH;
        next_a.store(at);
        next_b.store(bt);
        __syncthreads();  // all are done with the other buffer as well: they wrote this one since
        if (tile + 1 < last) bring(tile + 1);
#pragma unroll
        for (int k = 0; k < VECTOR_DEPTH; k++) {
            Packet<float> p[2], q[2];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                p[i] = load_packet(at + k * VECTOR_PITCH + row + 16 * i);
                q[i] = load_packet(bt + k * VECTOR_PITCH + column + 32 * i);
            }
#pragma unroll
            for (int i = 0; i < 64; i++)
                y[i / 8][i % 8] += p[i / 32].at[i / 8 % 4] * q[i / 4 % 2].at[i % 4];
        }
    }
#pragma unroll
    for (int i = 0; i < 16; i++) {
        int m = m0 + row + i / 8 * 16 + i / 2 % 4, n = n0 + column + i % 2 * 32;
        if (m < M && n < N) store((size_t)m, n, &y[i / 2][i % 2 * 4]);
    }
}

// Four neighbours of a row in memory, `left` of which exist; `packed`: all do, and lie aligned.
template <class T> __device__ __forceinline__ bool vector_packed(const T* to, int N) {
    return N % 4 == 0 && reinterpret_cast<uintptr_t>(to) % (4 * sizeof(T)) == 0;
}
template <class T> struct alignas(4 * sizeof(T)) Four {
    T at[4];
};
template <class T>
__device__ __forceinline__ void vector_put(T* to, bool packed, int left, const float* y) {
    Four<T> four;
#pragma unroll
    for (int e = 0; e < 4; e++) four.at[e] = from_float<T>(y[e]);
    if (packed) {
        *reinterpret_cast<Four<T>*>(to) = four;
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++)
            if (e < left) to[e] = four.at[e];
    }
}
