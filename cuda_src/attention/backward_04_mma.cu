// The flash backward on tensor cores. A warp owns 16 M rows: keys, whose scores are made with keys
// as rows, so that p and ds are the left factors of dv and dk as they lie in registers; or queries,
// for dq. What comes by is copied asynchronously, one tile ahead. Against 03: mma.sync of bfloat16
// with float32 sums for all products; p and ds are rounded to bfloat16 as their factors.
//
//@ launch  attention_delta grid=ceil_div(B*H*T,block/32) block=block
//@ launch  attention_dkdv  grid=B*H*ceil_div(T,block/2*M) block=block shared=(block*M+256/M)*(ceil_div(D,16)*16+8)*2
//@ launch  attention_dq    grid=B*H*ceil_div(T,block/2*M) block=block shared=(block*M+256/M)*(ceil_div(D,16)*16+8)*2
//@ static  D
//@ block   128
//@ tune    M 1
//@ needs   D <= 128
//@ scratch delta F32["B H T"]
//@ dtype   F=bfloat16
//@ claims  deterministic batch_invariant no_atomics
#include "delta.cuh"
#include "mma_tiles.cuh"

constexpr int COME = 64 / M, SCORES = COME / 8;  // rows of a visit

extern "C" __global__ void attention_delta(float* delta, const F* dout, const F* out, int B, int T,
                                           int H) {
    size_t row = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= (size_t)B * H * T) return;
    float sum = delta_of(row, dout, out, T, H, D);
    if (threadIdx.x % 32 == 0) delta[row] = sum;
}

// Scores s and the gradients dp of their weights become the weights and the scores' gradients.
__device__ __forceinline__ void weigh(float& s, float& dp, bool seen, float base, float mean,
                                      float scale) {
    float p = exp2f(fmaf(s, scale * LOG2_E, -base * LOG2_E));
    s = seen ? p : 0.0f;
    dp = seen ? p * (dp - mean) * scale : 0.0f;
}

// What a visit of queries from `at` on adds to dk and dv of this warp's keys from `own` on.
template <bool edge>
__device__ __forceinline__ void take_queries(float (&dk)[M][2 * STEPS][4],
                                             float (&dv)[M][2 * STEPS][4], const Number* keys,
                                             const Number* values, const Number* queries,
                                             const Number* dys, const float* lse,
                                             const float* delta, int own, int at, int T) {
    float s[M][SCORES][4] = {}, dp[M][SCORES][4] = {}, scale = 1.0f / sqrtf(D);
    add_dots(s, keys, queries);
    add_dots(dp, values, dys);
#pragma unroll
    for (int n = 0; n < SCORES; n++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            int t = at + 8 * n + lane() % 4 * 2 + e;
            bool here = !edge || t < T;
            float base = here ? lse[t] : 0.0f, mean = here ? delta[t] : 0.0f;
#pragma unroll
            for (int m = 0; m < M; m++) {
                int key = own + 16 * m + lane() / 4;
                weigh(s[m][n][e], dp[m][n][e], !edge || (here && t >= key), base, mean, scale);
                weigh(s[m][n][e + 2], dp[m][n][e + 2], !edge || (here && t >= key + 8), base, mean,
                      scale);
            }
        }
    }
    auto apart = [=](int m, int n) { return n + (at - own) / 16 - m; };
    auto sees = [](int i, int n) { return n >= i; };
    add_weighted<edge>(dv, s, dys, apart, sees);
    add_weighted<edge>(dk, dp, queries, apart, sees);
}

extern "C" __global__ void __launch_bounds__(block) attention_dkdv(F* dqkv, const float* delta,
                                                                 const F* dout, const F* qkv,
                                                                 const float* lse, int B, int T,
                                                                 int H) {
    DYNAMIC_SHARED(Number, keys);
    Number *values = keys + OWN * WIDE, *queries = values + OWN * WIDE;
    Number* dys = queries + 2 * COME * WIDE;
    int blocks = (T + OWN - 1) / OWN, first = blockIdx.x % blocks * OWN;
    int head = blockIdx.x / blocks, h = head % H, b = head / H;
    size_t C = (size_t)H * D;
    const F *q = qkv + (size_t)b * T * 3 * C + h * D, *dy = dout + (size_t)b * T * C + h * D;
    bool packed = D % 8 == 0 && is_aligned(qkv, dout);
    load_tile<OWN>(keys, q + C + first * 3 * C, 3 * C, T - first, packed);
    load_tile<OWN>(values, q + 2 * C + first * 3 * C, 3 * C, T - first, packed);
    auto load = [=](int at) {
        int buffer = at / COME % 2 * COME * WIDE;
        load_tile<COME>(queries + buffer, q + at * 3 * C, 3 * C, T - at, packed);
        load_tile<COME>(dys + buffer, dy + at * C, C, T - at, packed);
    };
    float dk[M][2 * STEPS][4] = {}, dv[M][2 * STEPS][4] = {};
    int own = first + 16 * M * warp();
    load(first);
    copy_async_commit();
    for (int at = first; at < T; at += COME) {
        if (at + COME < T) load(at + COME);
        copy_async_commit();
        copy_async_wait<1>();
        __syncthreads();
        const Number *x = queries + at / COME % 2 * COME * WIDE, *y = x + (dys - queries);
        const float *base = lse + (size_t)head * T, *mean = delta + (size_t)head * T;
        if (at >= own + 16 * M && at + COME <= T)
            take_queries<false>(dk, dv, keys, values, x, y, base, mean, own, at, T);
        else if (at + COME > own)
            take_queries<true>(dk, dv, keys, values, x, y, base, mean, own, at, T);
        __syncthreads();
    }
    F* to = dqkv + ((size_t)b * T + first) * 3 * C + h * D;
    bool pairs = D % 2 == 0 && reinterpret_cast<uintptr_t>(dqkv) % 4 == 0;
    store_rows(to + C, 3 * C, T - first, pairs, dk);
    store_rows(to + 2 * C, 3 * C, T - first, pairs, dv);
}

// What a visit of keys from `at` on adds to dq of this warp's queries from `own` on.
template <bool edge>
__device__ __forceinline__ void take_keys(float (&dq)[M][2 * STEPS][4], const Number* queries,
                                          const Number* dys, const Number* keys,
                                          const Number* values, const float (&base)[M][2],
                                          const float (&mean)[M][2], int own, int at) {
    float s[M][SCORES][4] = {}, dp[M][SCORES][4] = {}, scale = 1.0f / sqrtf(D);
    add_dots(s, queries, keys);
    add_dots(dp, dys, values);
#pragma unroll
    for (int i = 0; i < M * SCORES * 4; i++) {
        int m = i / (SCORES * 4), n = i / 4 % SCORES, e = i % 4;
        bool seen = at + 8 * n + lane() % 4 * 2 + e % 2 <= own + 16 * m + lane() / 4 + e / 2 * 8;
        weigh(s[m][n][e], dp[m][n][e], !edge || seen, base[m][e / 2], mean[m][e / 2], scale);
    }
    add_weighted<edge>(dq, dp, keys, [=](int m, int n) { return m - n - (at - own) / 16; },
                       [](int i, int n) { return n <= i; });
}

extern "C" __global__ void __launch_bounds__(block) attention_dq(F* dqkv, const float* delta,
                                                               const F* dout, const F* qkv,
                                                               const float* lse, int B, int T,
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
    };
    int own = first + 16 * M * warp(), end = min(first + OWN, T);
    float dq[M][2 * STEPS][4] = {}, base[M][2], mean[M][2];
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int t = own + lane() / 4 + 8 * i;
        base[i / 2][i % 2] = t < T ? lse[(size_t)head * T + t] : 0.0f;
        mean[i / 2][i % 2] = t < T ? delta[(size_t)head * T + t] : 0.0f;
    }
    load(0);
    copy_async_commit();
    for (int at = 0; at < end; at += COME) {
        if (at + COME < end) load(at + COME);
        copy_async_commit();
        copy_async_wait<1>();
        __syncthreads();
        const Number *k = keys + at / COME % 2 * COME * WIDE, *v = k + (values - keys);
        if (at + COME <= own + 1)
            take_keys<false>(dq, queries, dys, k, v, base, mean, own, at);
        else if (at < own + 16 * M)
            take_keys<true>(dq, queries, dys, k, v, base, mean, own, at);
        __syncthreads();
    }
    bool pairs = D % 2 == 0 && reinterpret_cast<uintptr_t>(dqkv) % 4 == 0;
    store_rows(dqkv + ((size_t)b * T + first) * 3 * C + h * D, 3 * C, T - first, pairs, dq);
}
