// Flash attention on tensor cores: both products are mma.sync of bfloat16 with float32 sums. Scores
// stay in registers and, rounded to bfloat16, are the left factor of the second product as they
// lie. The next keys and values come in asynchronously while these are used. Against 03: 16 times
// the arithmetic per instruction, half the bytes.
//
//@ launch attention_forward grid=B*H*ceil_div(T,block/2*M) block=block shared=(block/2*M+256)*(ceil_div(D,16)*16+8)*2
//@ static D
//@ block  128
//@ tune   M 2 1
//@ needs  D <= 128
//@ dtype  F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "mma_softmax.cuh"

// `ahead`: from this warp's first query to the first key of the tile, in positions.
template <bool edge>
__device__ __forceinline__ void take_tile(Running& to, const Number* queries, const Number* keys,
                                          const Number* values, float scale, int row, int key,
                                          int ahead) {
    float s[M][SCORES][4] = {};
    add_dots(s, queries, keys);
    soften<edge>(to, s, scale, row, key, [](float x) { return exp2f(x); });
    add_weighted<edge>(to.acc, s, values, [=](int m, int n) { return m - n - ahead / 16; },
                       [](int i, int n) { return n <= i; });
}

extern "C" __global__ void __launch_bounds__(block) attention_forward(F* out, float* lse,
                                                                      const F* qkv, int B, int T,
                                                                      int H) {
    DYNAMIC_SHARED(Number, queries);
    Number *keys = queries + OWN * WIDE, *values = keys + 2 * KEYS * WIDE;
    int blocks = (T + OWN - 1) / OWN;
    int first = (blocks - 1 - blockIdx.x % blocks) * OWN;  // the longest rows begin first
    int head = blockIdx.x / blocks, h = head % H, b = head / H;
    size_t C = (size_t)H * D;
    const F* q = qkv + (size_t)b * T * 3 * C + h * D;
    bool packed = D % 8 == 0 && is_aligned(qkv);
    load_tile<OWN>(queries, q + first * 3 * C, 3 * C, T - first, packed);
    auto load = [=](int key) {
        int buffer = key / KEYS % 2 * KEYS * WIDE;
        load_tile<KEYS>(keys + buffer, q + C + key * 3 * C, 3 * C, T - key, packed);
        load_tile<KEYS>(values + buffer, q + 2 * C + key * 3 * C, 3 * C, T - key, packed);
    };
    Running mine = {};
    for (int i = 0; i < 2 * M; i++) mine.max[i / 2][i % 2] = -INFINITY;
    int own = first + 16 * M * warp(), end = min(first + OWN, T);
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
    finish(out + ((size_t)b * T + first) * C + h * D, lse + (size_t)head * T + first, mine, C,
           T - first, pairs);
}
