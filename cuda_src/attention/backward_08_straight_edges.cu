// The diagonal without branches, as in forward 07: what a visit on the diagonal takes in, and which
// of its 16 x 16 pieces are triangles, is known when the kernel is compiled; with M = 1 there are
// three blocks on a multiprocessor.
// Against 07: a causal row of 1024 has one visit in eight on the diagonal, and there most of the
// instructions were.
//
//@ launch  attention_delta grid=ceil_div(B*H*T,block/32) block=block
//@ launch  attention_dkdv grid=B*H*ceil_div(T,64*M) block=block shared=(block*M+256/M)*(ceil_div(D,16)*32+16)+1024/M
//@ launch  attention_dq   grid=B*H*ceil_div(T,64*M) block=block shared=(block*M+256/M)*(ceil_div(D,16)*32+16)
//@ static  D
//@ block   128
//@ tune    M 1 2
//@ needs   M * D <= 128
//@ scratch less F32["B H T"]
//@ scratch base F32["B H T"]
//@ dtype   F=bfloat16
//@ claims  deterministic batch_invariant no_atomics
//@ spills  112
#include "delta.cuh"
#include "mma_gradients.cuh"

constexpr int COME = 64 / M, SCORES = COME / 8;        // rows of a visit
constexpr int AT_ONCE = (M == 1 ? 384 : 256) / block;  // blocks a multiprocessor is to hold

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

// What a visit of queries from `at` on adds to dk and dv of this warp's keys. On the `edge` 16
// PIECE queries come before the warp's first key and pass unseen; then come triangles. `tail`:
// queries from T on do not exist; what stands for them is zero.
template <bool edge, bool tail, int PIECE>
__device__ __forceinline__ void take_queries(float (&dk)[M][2 * STEPS][4],
                                             float (&dv)[M][2 * STEPS][4], const Number* keys,
                                             const Number* values, const Number* queries,
                                             const Number* dys, const float* base,
                                             const float* less, int at, int T) {
    constexpr int N = SCORES - 2 * PIECE, skip = 16 * PIECE;
    float s[M][N][4] = {}, dp[M][N][4];
#pragma unroll
    for (int i = 0; i < M * N * 4; i++)
        dp[i / (N * 4)][i / 4 % N][i % 4] = less[skip + 8 * (i / 4 % N) + lane() % 4 * 2 + i % 2];
    add_dots(s, keys, queries + skip * WIDE);
    add_dots(dp, values, dys + skip * WIDE);
#pragma unroll
    for (int i = 0; i < M * N * 4; i++) {
        int m = i / (N * 4), n = i / 4 % N, e = i % 4, t = skip + 8 * n + lane() % 4 * 2 + e % 2;
        int away = n / 2 - m;  // of the piece, from the triangle
        bool sees = n % 2 * 8 + lane() % 4 * 2 + e % 2 >= lane() / 4 + e / 2 * 8;
        bool after = !edge || away > 0 || (away == 0 && sees);
        weigh(s[m][n][e], dp[m][n][e], after && (!tail || at + t < T), base[t]);
    }
    auto apart = [](int m, int n) { return n - m; };
    auto sees = [](int i, int n) { return n >= i; };
    add_weighted<edge>(dv, s, dys + skip * WIDE, apart, sees);
    add_weighted<edge>(dk, dp, queries + skip * WIDE, apart, sees);
}

extern "C" __global__ void __launch_bounds__(block, AT_ONCE)
attention_dkdv(F* dqkv, const float* less, const float* base, const F* dout, const F* qkv, int B,
               int T, int H) {
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
        const float* w = z + COME;
        int piece = (own - at) / 16;  // of the visit, the one with the first triangle
        if (own >= T || at + COME <= own) continue;
        auto take = [&](auto edge, auto tail, auto piece) {
            take_queries<decltype(edge)::number != 0, decltype(tail)::number != 0,
                         decltype(piece)::number>(dk, dv, keys, values, x, y, z, w, at, T);
        };
        if (at > own && at + COME <= T) take(Is<0>{}, Is<0>{}, Is<0>{});
        else if (at > own) take(Is<0>{}, Is<1>{}, Is<0>{});
        else if (piece == 0) take(Is<1>{}, Is<1>{}, Is<0>{});
        else if (M == 1 && piece == 1) take(Is<1>{}, Is<1>{}, Is<2 - M>{});
        else if (M == 1 && piece == 2) take(Is<1>{}, Is<1>{}, Is<4 - 2 * M>{});
        else if (M == 1) take(Is<1>{}, Is<1>{}, Is<6 - 3 * M>{});
    }
    F* to = dqkv + ((size_t)b * T + first) * 3 * C + h * D;
    bool pairs = D % 2 == 0 && reinterpret_cast<uintptr_t>(dqkv) % 4 == 0;
    store_scaled(to + C, 3 * C, T - first, pairs, dk, 1.0f / sqrtf(D));
    store_rows(to + 2 * C, 3 * C, T - first, pairs, dv);
}

// What a visit of keys adds to dq of this warp's queries: 16 WHOLE keys that all of them see and,
// on the `edge`, the 16 M behind these, with triangles.
template <bool edge, int WHOLE>
__device__ __forceinline__ void take_keys(float (&dq)[M][2 * STEPS][4], const Number* queries,
                                          const Number* dys, const Number* keys,
                                          const Number* values, const float (&base)[M][2],
                                          const float (&less)[M][2]) {
    constexpr int N = 2 * (WHOLE + edge * M);
    float s[M][N][4] = {}, dp[M][N][4];
#pragma unroll
    for (int i = 0; i < M * N * 4; i++)
        dp[i / (N * 4)][i / 4 % N][i % 4] = less[i / (N * 4)][i % 4 / 2];
    add_dots(s, queries, keys);
    add_dots(dp, dys, values);
#pragma unroll
    for (int i = 0; i < M * N * 4; i++) {
        int m = i / (N * 4), n = i / 4 % N, e = i % 4, away = WHOLE + m - n / 2;
        bool sees = n % 2 * 8 + lane() % 4 * 2 + e % 2 <= lane() / 4 + e / 2 * 8;
        weigh(s[m][n][e], dp[m][n][e], !edge || away > 0 || (away == 0 && sees), base[m][e / 2]);
    }
    add_weighted<edge>(dq, dp, keys, [](int m, int n) { return WHOLE + m - n; },
                       [](int i, int n) { return n <= i; });
}

extern "C" __global__ void __launch_bounds__(block, AT_ONCE)
attention_dq(F* dqkv, const float* less, const float* base, const F* dout, const F* qkv, int B,
             int T, int H) {
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
        int whole = (own - at) / 16;
        if (own >= T || at > own) continue;
        auto take = [&](auto edge, auto whole) {
            take_keys<decltype(edge)::number != 0, decltype(whole)::number>(dq, queries, dys, k, v,
                                                                            bases, lesser);
        };
        if (whole >= COME / 16) take(Is<0>{}, Is<COME / 16>{});
        else if (whole == 0) take(Is<1>{}, Is<0>{});
        else if (M == 1 && whole == 1) take(Is<1>{}, Is<2 - M>{});
        else if (M == 1 && whole == 2) take(Is<1>{}, Is<4 - 2 * M>{});
        else if (M == 1) take(Is<1>{}, Is<6 - 3 * M>{});
    }
    bool pairs = D % 2 == 0 && reinterpret_cast<uintptr_t>(dqkv) % 4 == 0;
    store_scaled(dqkv + ((size_t)b * T + first) * 3 * C + h * D, 3 * C, T - first, pairs, dq,
                 1.0f / sqrtf(D));
}
