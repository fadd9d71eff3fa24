// Fewer instructions a score: dp begins at -delta instead of 0, so that the product subtracts; the
// scale goes into the results, once; lse comes in units of log 2; 2^x is one instruction; one
// barrier a visit. Against 04: one multiply-add, one 2^x and one multiply are left.
//
//@ launch attention_delta grid=ceil_div(B*H*T,block/32) block=block
//@ launch attention_dkdv grid=B*H*ceil_div(T,64*M) block=block shared=(block*M+256/M)*(ceil_div(D,16)*32+16)+1024/M
//@ launch attention_dq    grid=B*H*ceil_div(T,64*M) block=block shared=(block*M+256/M)*(ceil_div(D,16)*32+16)
//@ static  D
//@ block   128
//@ tune    M 2 1
//@ needs   M * D <= 128
//@ scratch less F32["B H T"]
//@ scratch base F32["B H T"]
//@ dtype   F=bfloat16
//@ claims  deterministic batch_invariant no_atomics
#include "delta.cuh"
#include "mma_tiles.cuh"

constexpr int COME = 64 / M, SCORES = COME / 8;  // rows of a visit

// less = -delta, base = -lse in units of log 2.
extern "C" __global__ void attention_delta(float* less, float* base, const F* dout, const F* out,
                                           const float* lse, int B, int T, int H) {
    size_t row = ((size_t)blockIdx.x * block + threadIdx.x) / 32;
    if (row >= (size_t)B * H * T) return;
    float sum = delta_of(row, dout, out, T, H, D);
    if (lane() > 0) return;
    less[row] = -sum;
    base[row] = -LOG2_E * lse[row];
}

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

// What a visit of queries from `at` on adds to dk and dv of this warp's keys from `own` on.
template <bool edge>
__device__ __forceinline__ void take_queries(float (&dk)[M][2 * STEPS][4],
                                             float (&dv)[M][2 * STEPS][4], const Number* keys,
                                             const Number* values, const Number* queries,
                                             const Number* dys, const float* base,
                                             const float* less, int own, int at, int T) {
    float s[M][SCORES][4] = {}, dp[M][SCORES][4];
#pragma unroll
    for (int i = 0; i < M * SCORES * 4; i++) {
        int n = i / 4 % SCORES;
        dp[i / (SCORES * 4)][n][i % 4] = less[8 * n + lane() % 4 * 2 + i % 2];
    }
    add_dots(s, keys, queries);
    add_dots(dp, values, dys);
#pragma unroll
    for (int i = 0; i < M * SCORES * 4; i++) {
        int m = i / (SCORES * 4), n = i / 4 % SCORES, e = i % 4, t = 8 * n + lane() % 4 * 2 + e % 2;
        bool seen = at + t < T && at + t >= own + 16 * m + lane() / 4 + e / 2 * 8;
        weigh(s[m][n][e], dp[m][n][e], !edge || seen, base[t]);
    }
    auto apart = [=](int m, int n) { return n + (at - own) / 16 - m; };
    auto sees = [](int i, int n) { return n >= i; };
    add_weighted<edge>(dv, s, dys, apart, sees);
    add_weighted<edge>(dk, dp, queries, apart, sees);
}

extern "C" __global__ void __launch_bounds__(block) attention_dkdv(F* dqkv, const float* less,
                                                                   const float* base,
                                                                   const F* dout, const F* qkv,
                                                                   int B, int T, int H) {
    DYNAMIC_SHARED(Number, keys);
    Number *values = keys + OWN * WIDE, *queries = values + OWN * WIDE;
    Number* dys = queries + 2 * COME * WIDE;
    float* row = reinterpret_cast<float*>(dys + 2 * COME * WIDE);  // base, then less; two buffers
    int blocks = (T + OWN - 1) / OWN, first = blockIdx.x % blocks * OWN;
    int head = blockIdx.x / blocks, h = head % H, b = head / H;
    size_t C = (size_t)H * D;
    const F *q = qkv + (size_t)b * T * 3 * C + h * D, *dy = dout + (size_t)b * T * C + h * D;
    bool packed = D % 8 == 0 && is_aligned(qkv, dout);
    load_tile<OWN>(keys, q + C + first * 3 * C, 3 * C, T - first, packed);
    load_tile<OWN>(values, q + 2 * C + first * 3 * C, 3 * C, T - first, packed);
    auto load = [=](int at) {
        int buffer = at / COME % 2 * COME;
        load_tile<COME>(queries + buffer * WIDE, q + at * 3 * C, 3 * C, T - at, packed);
        load_tile<COME>(dys + buffer * WIDE, dy + at * C, C, T - at, packed);
        copy_async_commit();
        int t = threadIdx.x % COME;
        if (threadIdx.x < 2 * COME)
            row[2 * buffer + threadIdx.x] =
                at + t < T ? (threadIdx.x < COME ? base : less)[(size_t)head * T + at + t] : 0.0f;
    };
    float dk[M][2 * STEPS][4] = {}, dv[M][2 * STEPS][4] = {};
    int own = first + 16 * M * warp();
    load(first);
    for (int at = first; at < T; at += COME) {
        copy_async_wait<0>();
        __syncthreads();  // these have landed for all, and all have done with those before
        if (at + COME < T) load(at + COME);
        int buffer = at / COME % 2 * COME;
        const Number *x = queries + buffer * WIDE, *y = dys + buffer * WIDE;
        const float* z = row + 2 * buffer;
        if (at >= own + 16 * M && at + COME <= T)
            take_queries<false>(dk, dv, keys, values, x, y, z, z + COME, own, at, T);
        else if (at + COME > own)
            take_queries<true>(dk, dv, keys, values, x, y, z, z + COME, own, at, T);
    }
    F* to = dqkv + ((size_t)b * T + first) * 3 * C + h * D;
    bool pairs = D % 2 == 0 && reinterpret_cast<uintptr_t>(dqkv) % 4 == 0;
    store_scaled(to + C, 3 * C, T - first, pairs, dk, 1.0f / sqrtf(D));
    store_rows(to + 2 * C, 3 * C, T - first, pairs, dv);
}

// What a visit of keys from `at` on adds to dq of this warp's queries from `own` on.
template <bool edge>
__device__ __forceinline__ void take_keys(float (&dq)[M][2 * STEPS][4], const Number* queries,
                                          const Number* dys, const Number* keys,
                                          const Number* values, const float (&base)[M][2],
                                          const float (&less)[M][2], int own, int at) {
    float s[M][SCORES][4] = {}, dp[M][SCORES][4];
#pragma unroll
    for (int i = 0; i < M * SCORES * 4; i++)
        dp[i / (SCORES * 4)][i / 4 % SCORES][i % 4] = less[i / (SCORES * 4)][i % 4 / 2];
    add_dots(s, queries, keys);
    add_dots(dp, dys, values);
#pragma unroll
    for (int i = 0; i < M * SCORES * 4; i++) {
        int m = i / (SCORES * 4), n = i / 4 % SCORES, e = i % 4;
        bool seen = at + 8 * n + lane() % 4 * 2 + e % 2 <= own + 16 * m + lane() / 4 + e / 2 * 8;
        weigh(s[m][n][e], dp[m][n][e], !edge || seen, base[m][e / 2]);
    }
    add_weighted<edge>(dq, dp, keys, [=](int m, int n) { return m - n - (at - own) / 16; },
                       [](int i, int n) { return n <= i; });
}

extern "C" __global__ void __launch_bounds__(block) attention_dq(F* dqkv, const float* less,
                                                                 const float* base, const F* dout,
                                                                 const F* qkv, int B, int T,
                                                                 int H) {
    DYNAMIC_SHARED(Number, queries);
    Number *dys = queries + OWN * WIDE, *keys = dys + OWN * WIDE;
    Number* values = keys + 2 * COME * WIDE;
    int blocks = (T + OWN - 1) / OWN, first = (blocks - 1 - blockIdx.x % blocks) * OWN;
    int head = blockIdx.x / blocks, h = head % H, b = head / H;
    size_t C = (size_t)H * D;
    const F *q = qkv + (size_t)b * T * 3 * C + h * D, *dy = dout + (size_t)b * T * C + h * D;
    bool packed = D % 8 == 0 && is_aligned(qkv, dout);
    load_tile<OWN>(queries, q + first * 3 * C, 3 * C, T - first, packed);
    load_tile<OWN>(dys, dy + first * C, C, T - first, packed);
    auto load = [=](int at) {
        int buffer = at / COME % 2 * COME * WIDE;
        load_tile<COME>(keys + buffer, q + C + at * 3 * C, 3 * C, T - at, packed);
        load_tile<COME>(values + buffer, q + 2 * C + at * 3 * C, 3 * C, T - at, packed);
        copy_async_commit();
    };
    int own = first + 16 * M * warp(), end = min(first + OWN, T);
    float dq[M][2 * STEPS][4] = {}, bases[M][2], lesser[M][2];
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int t = own + lane() / 4 + 8 * i;
        bases[i / 2][i % 2] = t < T ? base[(size_t)head * T + t] : 0.0f;
        lesser[i / 2][i % 2] = t < T ? less[(size_t)head * T + t] : 0.0f;
    }
    load(0);
    for (int at = 0; at < end; at += COME) {
        copy_async_wait<0>();
        __syncthreads();
        if (at + COME < end) load(at + COME);
        const Number *k = keys + at / COME % 2 * COME * WIDE, *v = k + (values - keys);
        if (at + COME <= own + 1)
            take_keys<false>(dq, queries, dys, k, v, bases, lesser, own, at);
        else if (at < own + 16 * M)
            take_keys<true>(dq, queries, dys, k, v, bases, lesser, own, at);
    }
    bool pairs = D % 2 == 0 && reinterpret_cast<uintptr_t>(dqkv) % 4 == 0;
    store_scaled(dqkv + ((size_t)b * T + first) * 3 * C + h * D, 3 * C, T - first, pairs, dq,
                 1.0f / sqrtf(D));
}
