// Flash attention on tensor cores: both products are mma.sync of bfloat16 with float32 sums. Scores
// stay in registers and, rounded to bfloat16, are the left factor of the second product as they
// lie. The next keys and values come in asynchronously while these are used. Against 03: 16 times
// the arithmetic per instruction, half the bytes.
//
//@ launch   attention_forward grid=B*H*ceil_div(T,64*M) block=128 shared=(64*M+256)*(ceil_div(D,16)*16+8)*2
//@ static   D
//@ tune     M 2 1
//@ needs    D <= 128
//@ dtype    F=bfloat16
//@ claims   deterministic batch_invariant no_atomics
#include "mma_tiles.cuh"

constexpr int KEYS = 64, SCORES = KEYS / 8;

struct Running {  // of rows g and g + 8 of each fragment; sums are this lane's own part
    float max[M][2], sum[M][2], acc[M][2 * STEPS][4];
};

// Takes scores of the keys from `key` on into the running softmax; s becomes their weights, in
// units of log 2. `row`: the position of this lane's first query.
template <bool edge>
__device__ __forceinline__ void soften(Running& to, float (&s)[M][SCORES][4], float scale,
                                       int row, int key) {
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
        float before = exp2f(to.max[m][e] - base);
        for (int n = 0; n < SCORES; n++) {
            for (int j = 2 * e; j < 2 * e + 2; j++) {
                s[m][n][j] = exp2f(fmaf(s[m][n][j], scale, -base));
                sum += s[m][n][j];
            }
        }
        to.sum[m][e] = to.sum[m][e] * before + sum;
        to.max[m][e] = larger;
        for (int n = 0; n < 2 * STEPS; n++)
            for (int j = 2 * e; j < 2 * e + 2; j++) to.acc[m][n][j] *= before;
    }
}

// `ahead`: from this warp's first query to the first key of the tile, in positions.
template <bool edge>
__device__ __forceinline__ void take_tile(Running& to, const Number* queries, const Number* keys,
                                          const Number* values, float scale, int row, int key,
                                          int ahead) {
    float s[M][SCORES][4];
    dot_rows(s, queries, keys);
    soften<edge>(to, s, scale, row, key);
    add_weighted<edge>(to.acc, s, values, 0, [=](int m, int n) { return m - n - ahead / 16; },
                       [](int i, int n) { return n <= i; });
}

__device__ __forceinline__ void finish(F* out, float* lse, Running& mine, size_t C, int left,
                                       bool pairs) {
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int m = i / 2, e = i % 2, r = 16 * (M * warp() + m) + lane() / 4 + 8 * e;
        float sum = mine.sum[m][e];
        sum += __shfl_xor_sync(FULL, sum, 1);
        sum += __shfl_xor_sync(FULL, sum, 2);
        for (int n = 0; n < 2 * STEPS; n++)
            for (int j = 2 * e; j < 2 * e + 2; j++) mine.acc[m][n][j] /= sum;
        if (r < left && lane() % 4 == 0) lse[r] = (mine.max[m][e] + log2f(sum)) * LN_2;
    }
    store_rows(out, C, left, pairs, mine.acc);
}

extern "C" __global__ void __launch_bounds__(128) attention_forward(F* out, float* lse,
                                                                    const F* qkv, int B, int T,
                                                                    int H) {
    DYNAMIC_SHARED(Number, queries);
    Number *keys = queries + 64 * M * WIDE, *values = keys + 2 * KEYS * WIDE;
    int blocks = (T + 64 * M - 1) / (64 * M);
    int first = (blocks - 1 - blockIdx.x % blocks) * 64 * M;  // the longest rows begin first
    size_t head = blockIdx.x / blocks, h = head % H, b = head / H, C = (size_t)H * D;
    const F* q = qkv + b * T * 3 * C + h * D;
    bool packed = D % 8 == 0 && is_aligned(qkv);
    load_tile<64 * M>(queries, q + first * 3 * C, 3 * C, T - first, packed);
    auto load = [=](int key) {
        int buffer = key / KEYS % 2 * KEYS * WIDE;
        load_tile<KEYS>(keys + buffer, q + C + key * 3 * C, 3 * C, T - key, packed);
        load_tile<KEYS>(values + buffer, q + 2 * C + key * 3 * C, 3 * C, T - key, packed);
    };
    Running mine = {};
    for (int i = 0; i < 2 * M; i++) mine.max[i / 2][i % 2] = -INFINITY;
    int own = first + 16 * M * warp(), end = min(first + 64 * M, T);
    load(0);
    copy_async_commit();
    for (int key = 0; key < end; key += KEYS) {
        if (key + KEYS < end) load(key + KEYS);
        copy_async_commit();
        copy_async_wait<1>();
        __syncthreads();
        const Number *k = keys + key / KEYS % 2 * KEYS * WIDE, *v = k + (values - keys);
        int row = own + lane() / 4;
        float scale = LOG2_E / sqrtf(D);
        if (key + KEYS <= own + 1)
            take_tile<false>(mine, queries, k, v, scale, row, key, 0);
        else if (key < own + 16 * M)
            take_tile<true>(mine, queries, k, v, scale, row, key, key - own);
        __syncthreads();
    }
    bool pairs = D % 2 == 0 && reinterpret_cast<uintptr_t>(out) % 4 == 0;
    finish(out + (b * T + first) * C + h * D, lse + head * T + first, mine, C, T - first, pairs);
}
