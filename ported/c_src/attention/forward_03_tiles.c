// Eight queries at a time: their scores and their weighted sum of values are products on register
// tiles, keys packed by column and values by row once a head. The last, triangular part of the sum,
// where each query has other keys, is added row by row, so that no query touches a later value.
// Against 02: a loaded key or value serves eight queries.
//
//@ dtype   all=float32
//@ scratch work F32["threads*((T+48)*D+T*(D+48)+8*(T+48)+64)"]
//@ claims  deterministic batch_invariant
#include "tiles.h"

// p[s] becomes exp(scale * p[s] - max) for s < n; returns the sum and gives the max.
static float exponentials(float* p, int64_t n, float scale, float* max) {
    lanes largest = every(-INFINITY), sum = {0};
    for (int64_t s = 0; s < n; s += LANES) {
        largest = larger(keep(scale * load(p + s, n - s), every(-INFINITY), n - s), largest);
    }
    *max = largest_of(largest);  // may step over a NaN: the sum will not
    for (int64_t s = 0; s < n; s += LANES) {
        lanes e = keep(exp_of(scale * load(p + s, n - s) - *max), (lanes){0}, n - s);
        store(p + s, e, n - s);
        sum += e;
    }
    return sum_of(sum);
}

void attention_forward(float* out, float* lse, float* work, const float* qkv, int B, int T, int H,
                       int D, int threads) {
    int64_t C = (int64_t)H * D, row = 3 * C, wide = T + 48;
    int64_t size = wide * D + (int64_t)T * (D + 48) + 8 * wide + 64;
    float scale = 1.0f / sqrtf(D);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t head = 0; head < (int64_t)B * H; head++) {
        int64_t b = head / H, h = head % H;
        const float* q = qkv + b * T * row + h * D;
        const float *k = q + C, *v = q + 2 * C;
        float* keys = aligned(work + omp_get_thread_num() * size);  // panels [D][COLUMNS]
        float* values = keys + wide * D;                            // panels [T][COLUMNS]
        float* p = values + (int64_t)T * (D + 48);                  // [ROWS, wide]
        pack_columns(keys, (Matrix){k, 1, row}, D, T);
        pack_head(values, v, row, T, D);
        for (int64_t t = 0; t < T; t += ROWS) {
            int rows = (int)least(ROWS, T - t);
            const float* a[ROWS];
            point(a, q + t * row, row, rows);
            score(p, wide, a, keys, t + rows, D, rows);
            float sum[ROWS];
            for (int r = 0; r < rows; r++) {
                float max;
                sum[r] = exponentials(p + r * wide, t + r + 1, scale, &max);
                lse[head * T + t + r] = max + logf(sum[r]);
            }
            float* y = out + (b * T + t) * C + h * D;
            point(a, p, wide, rows);
            times_panels(y, C, 0, a, 1, t, values, T, D, rows);
            for (int r = 0; r < rows; r++) {
                add_rows(y + r * C, p + r * wide + t, 1, v + t * row, row, r + 1, D);
                for (int64_t d = 0; d < D; d += LANES) {
                    store(y + r * C + d, load(y + r * C + d, D - d) / sum[r], D - d);
                }
            }
        }
    }
}
