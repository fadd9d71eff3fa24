// The diagonal without branches: how many keys a warp's last visit has, and which 16 x 16 pieces of
// it are whole, is known when the kernel is compiled, so that the visit is as wide as it must be
// and runs straight through. What a row's exponentials are taken from follows its maximum only when
// that has grown by more than 2^8, so that the sums are rarely scaled. Blocks of eight warps share
// keys and values, which are asked for two visits ahead.
// Against 05: a causal row of 1024 has one visit in eight on the diagonal, and there most of the
// instructions were.
//
//@ launch attention_forward grid=B*H*ceil_div(T,block/2*M) block=block shared=(block/2*M+384)*(ceil_div(D,16)*16+8)*2
//@ static D
//@ block  256 128
//@ tune   M 1 2
//@ needs  M * D <= 128
//@ dtype  F=bfloat16
//@ claims deterministic batch_invariant no_atomics
//@ spills 48
#include "mma_softmax.cuh"

constexpr int STAGES = 3, STAGE = 2 * KEYS * WIDE;  // keys, then values
constexpr int KEPT = 1;       // fragments of queries in registers: one, or they are read again
constexpr float ROOM = 8.0f;  // how far a maximum may outgrow its base, in units of log 2

// Scores become weights. `to.max` is what a row's exponentials are taken from: each of its rows
// decides by itself, so that none depends on its neighbours.
template <int N>
__device__ __forceinline__ void weigh(Running& to, float (&s)[M][N][4], float scale) {
    float larger[2 * M];
    bool grown = false;
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int m = i / 2, e = i % 2;
        larger[i] = -INFINITY;
#pragma unroll
        for (int n = 0; n < 2 * N; n++)  // may step over a NaN: the sum will not
            larger[i] = fmaxf(larger[i], s[m][n / 2][2 * e + n % 2]);
        larger[i] = fmaxf(larger[i], __shfl_xor_sync(FULL, larger[i], 1));
        larger[i] = fmaxf(larger[i], __shfl_xor_sync(FULL, larger[i], 2)) * scale;
        grown |= larger[i] > to.max[m][e] + ROOM;
    }
    if (__any_sync(FULL, grown)) {
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            int m = i / 2, e = i % 2;
            bool mine = larger[i] > to.max[m][e] + ROOM;
            float before = mine ? exp2_fast(to.max[m][e] - larger[i]) : 1.0f;
            if (mine) to.max[m][e] = larger[i];
            to.sum[m][e] *= before;
#pragma unroll
            for (int n = 0; n < 4 * STEPS; n++) to.acc[m][n / 2][2 * e + n % 2] *= before;
        }
    }
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int m = i / 2, e = i % 2;
        float base = to.max[m][e] == -INFINITY ? 0.0f : to.max[m][e], sum = 0.0f;
#pragma unroll
        for (int n = 0; n < 2 * N; n++) {
            float& x = s[m][n / 2][2 * e + n % 2];
            x = exp2_fast(fmaf(x, scale, -base));
            sum += x;
        }
        to.sum[m][e] += sum;
    }
}

// A visit of 16 WHOLE keys that all of the warp's queries see and, `edge`, of the 16 M keys behind
// them: fragment m sees those before piece WHOLE + m, and of this one the lower triangle.
template <bool edge, int WHOLE>
__device__ __forceinline__ void visit(Running& to, const unsigned (&factors)[KEPT][STEPS][4],
                                      const Number* queries, const Number* keys,
                                      const Number* values, float scale) {
    constexpr int pieces = WHOLE + edge * M;
    float s[M][2 * pieces][4] = {};
    add_dots(s, [&](unsigned (&left)[4], int m, int step) {
        if (M > KEPT) return rows_of(left, queries, 16 * (M * warp() + m), step);
#pragma unroll
        for (int i = 0; i < 4; i++) left[i] = factors[m % KEPT][step][i];
    }, keys);
    if (edge) {
#pragma unroll
        for (int i = 0; i < M * 2 * pieces * 4; i++) {
            int m = i / (8 * pieces), n = i / 4 % (2 * pieces), e = i % 4, away = n / 2 - WHOLE - m;
            bool later = n % 2 * 8 + lane() % 4 * 2 + e % 2 > lane() / 4 + e / 2 * 8;
            if (away > 0 || (away == 0 && later)) s[m][n][e] = -INFINITY;
        }
    }
    weigh(to, s, scale);
    add_weighted<edge>(to.acc, s, values, [](int m, int n) { return WHOLE + m - n; },
                       [](int i, int n) { return n <= i; });
}

extern "C" __global__ void __launch_bounds__(block, 512 / block / M)
attention_forward(F* out, float* lse, const F* qkv, int B, int T, int H) {
    DYNAMIC_SHARED(Number, queries);
    Number* stages = queries + OWN * WIDE;
    int blocks = (T + OWN - 1) / OWN;
    int first = (blocks - 1 - blockIdx.x % blocks) * OWN;  // the longest rows begin first
    int head = blockIdx.x / blocks, h = head % H, b = head / H, end = min(first + OWN, T);
    size_t C = (size_t)H * D;
    const F* q = qkv + (size_t)b * T * 3 * C + h * D;
    bool packed = D % 8 == 0 && is_aligned(qkv);
    auto load = [=](int key) {
        Number* stage = stages + key / KEYS % STAGES * STAGE;
        if (key < end) {
            load_tile<KEYS>(stage, q + C + key * 3 * C, 3 * C, T - key, packed);
            load_tile<KEYS>(stage + KEYS * WIDE, q + 2 * C + key * 3 * C, 3 * C, T - key, packed);
        }
        copy_async_commit();  // an empty group too, so that the count of groups holds
    };
    load_tile<OWN>(queries, q + first * 3 * C, 3 * C, T - first, packed);
    load(0);
    load(KEYS);
    copy_async_wait<1>();
    __syncthreads();
    unsigned factors[KEPT][STEPS][4];
#pragma unroll
    for (int step = 0; step < STEPS; step++) rows_of(factors[0][step], queries, 16 * warp(), step);
    Running mine = {};
#pragma unroll
    for (int i = 0; i < 2 * M; i++) mine.max[i / 2][i % 2] = -INFINITY;
    int own = first + 16 * M * warp();
    float scale = LOG2_E / sqrtf(D);
    for (int key = 0; key < end; key += KEYS) {
        copy_async_wait<1>();
        __syncthreads();  // these have landed for all, and all have done with those before
        load(key + 2 * KEYS);
        const Number *k = stages + key / KEYS % STAGES * STAGE, *v = k + KEYS * WIDE;
        int whole = (own - key) / 16;
        if (key > own || own >= T) continue;
        if (whole >= KEYS / 16) visit<false, 4>(mine, factors, queries, k, v, scale);
        else if (whole == 0) visit<true, 0>(mine, factors, queries, k, v, scale);
        else if (whole == 2) visit<true, 2>(mine, factors, queries, k, v, scale);
        else if (M == 1 && whole == 1)
            visit<true, 2 - M>(mine, factors, queries, k, v, scale);
        else if (M == 1) visit<true, 6 - 3 * M>(mine, factors, queries, k, v, scale);
    }
    bool pairs = D % 2 == 0 && reinterpret_cast<uintptr_t>(out) % 4 == 0;
    finish(out + ((size_t)b * T + first) * C + h * D, lse + (size_t)head * T + first, mine, C,
           T - first, pairs);
}
