// Flash attention on CUDA cores: a block takes 16 EACH queries and visits the keys 64 at a time;
// both tiles lie in shared memory, and a thread owns EACH x 8 scores and EACH rows of the weighted
// sum in registers. Against 02: a loaded number serves 8 or EACH products instead of one, and the
// softmax is brought up to date once a tile (Dao et al. 2022; Dao 2023).
//
//@ block   128
//@ grid    B * H * ceil_div(T, 16 * EACH)
//@ shared  ((16 * EACH + 128) * (ceil_div(D, 32) * 32 + 4) + 16 * EACH * 68) * 4
//@ static  D
//@ tune    EACH 8 4
//@ needs   EACH * D <= 512
//@ dtype   all=float32 | F=bfloat16
//@ claims  deterministic batch_invariant no_atomics
#include "tiles.cuh"

struct Running {  // of rows y + 16 i
    float max[EACH], sum[EACH], acc[EACH][4 * PARTS];
};

// Takes the scores s of keys from `key` on into the running softmax; s becomes their weights.
// Everything is in units of log 2. `row`: the position of this thread's first query.
template <bool edge>
__device__ __forceinline__ void soften(Running& to, float (&s)[EACH][8], float scale, int row,
                                       int key) {
    for (int i = 0; i < EACH; i++) {
        float larger = -INFINITY;
        for (int j = 0; j < 8; j++) {
            if (edge && key + thread_x() + 8 * j > row + 16 * i) s[i][j] = -INFINITY;
            larger = fmaxf(larger, s[i][j]);  // may step over a NaN: the sum will not
        }
        for (int away = 4; away > 0; away /= 2)
            larger = fmaxf(larger, __shfl_xor_sync(FULL, larger, away));
        larger = fmaxf(to.max[i], larger * scale);
        float base = larger == -INFINITY ? 0.0f : larger, sum = 0.0f;
        float before = exp2f(to.max[i] - base);
        for (int j = 0; j < 8; j++) {
            s[i][j] = exp2f(fmaf(s[i][j], scale, -base));
            sum += s[i][j];
        }
        for (int away = 4; away > 0; away /= 2) sum += __shfl_xor_sync(FULL, sum, away);
        to.sum[i] = to.sum[i] * before + sum;
        to.max[i] = larger;
        for (int c = 0; c < 4 * PARTS; c++) to.acc[i][c] *= before;
    }
}

template <bool edge>
__device__ __forceinline__ void take_tile(Running& to, float* weights, const float* queries,
                                          const float* keys, const float* values, float scale,
                                          int row, int key) {
    float s[EACH][8];
    dot_rows<EACH>(s, queries, keys);
    soften<edge>(to, s, scale, row, key);
    store_weights<EACH>(weights, s);
    __syncwarp();
    add_weighted<edge, EACH>(to.acc, weights, values,
                          [=](int i, int n) { return key + n <= row + 16 * i; });
    __syncwarp();
}

extern "C" __global__ void __launch_bounds__(128) attention_forward(F* out, float* lse,
                                                                    const F* qkv, int B, int T,
                                                                    int H) {
    DYNAMIC_SHARED(float, queries);
    float *keys = queries + 16 * EACH * WIDE, *values = keys + TILE * WIDE;
    float* weights = values + TILE * WIDE;
    int blocks = (T + 16 * EACH - 1) / (16 * EACH);
    int first = (blocks - 1 - blockIdx.x % blocks) * 16 * EACH;  // the longest rows begin first
    int head = blockIdx.x / blocks, h = head % H, b = head / H;
    size_t C = (size_t)H * D;
    const F* q = qkv + (size_t)b * T * 3 * C + h * D;
    bool packed = is_aligned(qkv);
    load_tile<16 * EACH>(queries, q + first * 3 * C, 3 * C, T - first, packed);
    Running mine = {};
    for (int i = 0; i < EACH; i++) mine.max[i] = -INFINITY;
    int row = first + thread_y(), end = min(first + 16 * EACH, T);
    float scale = LOG2_E / sqrtf(D);
    for (int key = 0; key < end; key += TILE) {
        __syncthreads();
        load_tile<TILE>(keys, q + C + key * 3 * C, 3 * C, T - key, packed);
        load_tile<TILE>(values, q + 2 * C + key * 3 * C, 3 * C, T - key, packed);
        __syncthreads();
        if (key + TILE > first + 1)
            take_tile<true>(mine, weights, queries, keys, values, scale, row, key);
        else
            take_tile<false>(mine, weights, queries, keys, values, scale, row, key);
    }
    for (int i = 0; i < EACH; i++) {
        for (int c = 0; c < 4 * PARTS; c++) mine.acc[i][c] /= mine.sum[i];
        int t = row + 16 * i;
        if (t < T && thread_x() == 0)
            lse[(size_t)head * T + t] = (mine.max[i] + log2f(mine.sum[i])) * LN_2;
    }
    store_rows<EACH>(out + ((size_t)b * T + first) * C + h * D, C, T - first, mine.acc);
}
