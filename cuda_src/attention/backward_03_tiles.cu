// The flash backward on CUDA cores, recomputed twice so that nothing is added across blocks: a
// block of 64 keys visits the queries after it and gathers dk and dv; a block of 64 queries visits
// the keys before it and gathers dq. Against 02: tiles in shared memory, 4 x 8 scores a thread
// (Dao et al. 2022, without its atomics).
//
//@ launch attention_delta grid=ceil_div(B*H*T,4) block=128
//@ launch attention_dkdv  grid=B*H*ceil_div(T,64) block=128 shared=(256*(ceil_div(D,32)*32+4)+128*68+128)*4
//@ launch attention_dq    grid=B*H*ceil_div(T,64) block=128 shared=(256*(ceil_div(D,32)*32+4)+64*68)*4
//@ static  D
//@ needs   D <= 128
//@ scratch delta F32["B H T"]
//@ dtype   all=float32 | F=bfloat16
//@ claims  deterministic batch_invariant no_atomics
#include "delta.cuh"
#include "tiles.cuh"

constexpr int EACH = 4;

extern "C" __global__ void attention_delta(float* delta, const F* dout, const F* out, int B, int T,
                                           int H) {
    size_t row = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    if (row >= (size_t)B * H * T) return;
    float sum = delta_of(row, dout, out, T, H, D);
    if (threadIdx.x % 32 == 0) delta[row] = sum;
}

// A score q . k, its gradient dout . v and what the row keeps (lse, delta), to p and ds.
__device__ __forceinline__ void weigh(float (&p)[EACH][8], float (&ds)[EACH][8], int i, int j,
                                      bool seen, float base, float mean, float scale) {
    p[i][j] = seen ? exp2f(fmaf(p[i][j], scale * LOG2_E, -base * LOG2_E)) : 0.0f;
    ds[i][j] = seen ? p[i][j] * (ds[i][j] - mean) * scale : 0.0f;
}

extern "C" __global__ void __launch_bounds__(128) attention_dkdv(F* dqkv, const float* delta,
                                                                 const F* dout, const F* qkv,
                                                                 const float* lse, int B, int T,
                                                                 int H) {
    DYNAMIC_SHARED(float, keys);
    float *values = keys + TILE * WIDE, *queries = values + TILE * WIDE;
    float *dys = queries + TILE * WIDE, *weights = dys + TILE * WIDE;
    float *slopes = weights + TILE * ROW, *bases = slopes + TILE * ROW, *means = bases + TILE;
    int blocks = (T + TILE - 1) / TILE, first = blockIdx.x % blocks * TILE;
    int key = first + thread_y();
    size_t head = blockIdx.x / blocks, h = head % H, b = head / H, C = (size_t)H * D;
    const F *q = qkv + b * T * 3 * C + h * D, *dy = dout + b * T * C + h * D;
    bool packed = is_aligned(qkv, dout);
    float scale = 1.0f / sqrtf(D), dk[EACH][4 * PARTS] = {}, dv[EACH][4 * PARTS] = {};
    load_tile<TILE>(keys, q + C + first * 3 * C, 3 * C, T - first, packed);
    load_tile<TILE>(values, q + 2 * C + first * 3 * C, 3 * C, T - first, packed);
    for (int query = first; query < T; query += TILE) {
        __syncthreads();
        load_tile<TILE>(queries, q + query * 3 * C, 3 * C, T - query, packed);
        load_tile<TILE>(dys, dy + query * C, C, T - query, packed);
        if (threadIdx.x < TILE && query + threadIdx.x < T) {
            bases[threadIdx.x] = lse[head * T + query + threadIdx.x];
            means[threadIdx.x] = delta[head * T + query + threadIdx.x];
        }
        __syncthreads();
        float p[EACH][8], ds[EACH][8];
        dot_rows<EACH>(p, keys, queries);
        dot_rows<EACH>(ds, values, dys);
        for (int i = 0; i < EACH; i++) {
            for (int j = 0; j < 8; j++) {
                int n = thread_x() + 8 * j;
                bool seen = query + n >= key + 16 * i && query + n < T;
                weigh(p, ds, i, j, seen, seen ? bases[n] : 0.0f, seen ? means[n] : 0.0f, scale);
            }
        }
        store_weights<EACH>(weights, p);
        store_weights<EACH>(slopes, ds);
        __syncwarp();
        auto sees = [=](int i, int n) { return query + n >= key + 16 * i; };
        if (query == first) {
            add_weighted<true, EACH>(dv, weights, dys, sees);
            add_weighted<true, EACH>(dk, slopes, queries, sees);
        } else {
            add_weighted<false, EACH>(dv, weights, dys, sees);
            add_weighted<false, EACH>(dk, slopes, queries, sees);
        }
    }
    F* to = dqkv + (b * T + first) * 3 * C + h * D;
    store_rows<EACH>(to + C, 3 * C, T - first, dk);
    store_rows<EACH>(to + 2 * C, 3 * C, T - first, dv);
}

extern "C" __global__ void __launch_bounds__(128) attention_dq(F* dqkv, const float* delta,
                                                               const F* dout, const F* qkv,
                                                               const float* lse, int B, int T,
                                                               int H) {
    DYNAMIC_SHARED(float, queries);
    float *dys = queries + TILE * WIDE, *keys = dys + TILE * WIDE, *values = keys + TILE * WIDE;
    float* slopes = values + TILE * WIDE;
    int blocks = (T + TILE - 1) / TILE, first = (blocks - 1 - blockIdx.x % blocks) * TILE;
    size_t head = blockIdx.x / blocks, h = head % H, b = head / H, C = (size_t)H * D;
    const F *q = qkv + b * T * 3 * C + h * D, *dy = dout + b * T * C + h * D;
    bool packed = is_aligned(qkv, dout);
    float scale = 1.0f / sqrtf(D), dq[EACH][4 * PARTS] = {}, base[EACH], mean[EACH];
    int row = first + thread_y();
    for (int i = 0; i < EACH; i++) {
        base[i] = row + 16 * i < T ? lse[head * T + row + 16 * i] : 0.0f;
        mean[i] = row + 16 * i < T ? delta[head * T + row + 16 * i] : 0.0f;
    }
    load_tile<TILE>(queries, q + first * 3 * C, 3 * C, T - first, packed);
    load_tile<TILE>(dys, dy + first * C, C, T - first, packed);
    for (int key = 0; key <= first; key += TILE) {
        __syncthreads();
        load_tile<TILE>(keys, q + C + key * 3 * C, 3 * C, T - key, packed);
        load_tile<TILE>(values, q + 2 * C + key * 3 * C, 3 * C, T - key, packed);
        __syncthreads();
        float p[EACH][8], ds[EACH][8];
        dot_rows<EACH>(p, queries, keys);
        dot_rows<EACH>(ds, dys, values);
        auto sees = [=](int i, int n) { return key + n <= row + 16 * i; };
        for (int i = 0; i < EACH; i++)
            for (int j = 0; j < 8; j++)
                weigh(p, ds, i, j, sees(i, thread_x() + 8 * j), base[i], mean[i], scale);
        store_weights<EACH>(slopes, ds);
        __syncwarp();
        if (key == first)
            add_weighted<true, EACH>(dq, slopes, keys, sees);
        else
            add_weighted<false, EACH>(dq, slopes, keys, sees);
    }
    store_rows<EACH>(dqkv + (b * T + first) * 3 * C + h * D, 3 * C, T - first, dq);
}
