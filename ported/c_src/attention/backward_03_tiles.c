// A block of queries at a time: p and ds for all of its keys are made in scratch, then dq, dk and
// dv are products on register tiles. dk and dv gather block after block, in the same order always.
// The triangles on the diagonal are added row by row, so that no position touches a later one.
// Against 02: a loaded row serves eight others.
//
//@ dtype   all=float32
//@ scratch work F32["threads*(2*(T+48)*D+3*T*(D+48)+128*(T+48)+T+64)"]
//@ claims  deterministic batch_invariant
#include "tiles.h"

#define QUERIES (8 * ROWS)

typedef struct {  // one head and its thread's scratch
    const float *q, *k, *v, *dy, *y, *lse;  // rows of q, k, v are 3C apart, of dy and y C
    float *dq, *dk, *dv;
    float *keys, *values;                  // packed by column
    float *k_rows, *q_rows, *dy_rows;      // packed by row
    float *p, *ds, *delta;                 // p, ds: [QUERIES, T + 48]
    int64_t C, T, D;
    float scale;
} Head;

static void prepare(const Head* x) {
    int64_t row = 3 * x->C;
    pack_columns(x->keys, (Matrix){x->k, 1, row}, x->D, x->T);
    pack_columns(x->values, (Matrix){x->v, 1, row}, x->D, x->T);
    pack_head(x->k_rows, x->k, row, x->T, x->D);
    pack_head(x->q_rows, x->q, row, x->T, x->D);
    pack_head(x->dy_rows, x->dy, x->C, x->T, x->D);
    for (int64_t t = 0; t < x->T; t++) {
        lanes sum = {0};
        for (int64_t d = 0; d < x->D; d += LANES) {
            sum += load(x->dy + t * x->C + d, x->D - d) * load(x->y + t * x->C + d, x->D - d);
        }
        x->delta[t] = sum_of(sum);
    }
}

// p and ds of queries t.., and their dq. p and ds point at the first query's row.
static void query_rows(const Head* x, int64_t t, int rows, float* p, float* ds) {
    int64_t wide = x->T + 48, row = 3 * x->C;
    const float* a[ROWS];
    point(a, x->q + t * row, row, rows);
    score(p, wide, a, x->keys, t + rows, x->D, rows);
    point(a, x->dy + t * x->C, x->C, rows);
    score(ds, wide, a, x->values, t + rows, x->D, rows);
    for (int r = 0; r < rows; r++) {
        for (int64_t s = 0; s <= t + r; s += LANES) {
            int64_t at = r * wide + s, left = t + r + 1 - s;
            lanes weight = exp_of(x->scale * load(p + at, left) - x->lse[t + r]);
            store(p + at, weight, left);
            store(ds + at, weight * (load(ds + at, left) - x->delta[t + r]) * x->scale, left);
        }
    }
    point(a, ds, wide, rows);
    times_panels(x->dq + t * row, row, 0, a, 1, t, x->k_rows, x->T, x->D, rows);
    for (int r = 0; r < rows; r++) {
        add_rows(x->dq + (t + r) * row, ds + r * wide + t, 1, x->k + t * row, row, r + 1, x->D);
    }
}

// out[s.., :] += sum over queries of w[query, s] * rows[query, :]: dv from p and dy, dk from ds and
// q. The queries are those from `block` to `end` that see all of the keys s..; then the triangle.
static void key_rows(const Head* x, float* out, const float* w, const float* panels,
                     const float* rows_at, int64_t apart, int64_t s, int rows, int64_t block,
                     int64_t end) {
    int64_t wide = x->T + 48, row = 3 * x->C;
    int64_t from = s + ROWS > block ? least(s + ROWS, end) : block;
    const float* a[ROWS];
    point(a, w + (from - block) * wide + s, 1, rows);
    times_panels(out + s * row, row, s < block, a, wide, end - from, panels + from * COLUMNS,
                 x->T, x->D, rows);
    for (int r = 0; r < rows && s >= block; r++) {
        add_rows(out + (s + r) * row, w + (s + r - block) * wide + s + r, wide,
                 rows_at + (s + r) * apart, apart, rows - r, x->D);
    }
}

static void head_backward(const Head* x) {
    prepare(x);
    for (int64_t block = 0; block < x->T; block += QUERIES) {
        int64_t end = least(block + QUERIES, x->T), wide = x->T + 48;
        for (int64_t t = block; t < end; t += ROWS) {
            int64_t at = (t - block) * wide;
            query_rows(x, t, (int)least(ROWS, end - t), x->p + at, x->ds + at);
        }
        for (int64_t s = 0; s < end; s += ROWS) {
            int rows = (int)least(ROWS, end - s);
            key_rows(x, x->dv, x->p, x->dy_rows, x->dy, x->C, s, rows, block, end);
            key_rows(x, x->dk, x->ds, x->q_rows, x->q, 3 * x->C, s, rows, block, end);
        }
    }
}

void attention_backward(float* dqkv, float* work, const float* dout, const float* qkv,
                        const float* out, const float* lse, int B, int T, int H, int D,
                        int threads) {
    int64_t C = (int64_t)H * D, columns = (int64_t)(T + 48) * D, panels = (int64_t)T * (D + 48);
    int64_t size = 2 * columns + 3 * panels + 128 * (T + 48) + T + 64;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t head = 0; head < (int64_t)B * H; head++) {
        int64_t b = head / H, h = head % H;
        int64_t at = b * T * 3 * C + h * D, at_out = b * T * C + h * D;
        float* mine = aligned(work + omp_get_thread_num() * size);
        Head x = {.C = C, .T = T, .D = D, .scale = 1.0f / sqrtf(D), .lse = lse + head * T,
                  .q = qkv + at, .k = qkv + at + C, .v = qkv + at + 2 * C,
                  .dq = dqkv + at, .dk = dqkv + at + C, .dv = dqkv + at + 2 * C,
                  .dy = dout + at_out, .y = out + at_out};
        x.keys = mine;
        x.values = x.keys + columns;
        x.k_rows = x.values + columns;
        x.q_rows = x.k_rows + panels;
        x.dy_rows = x.q_rows + panels;
        x.p = x.dy_rows + panels;
        x.ds = x.p + 64 * (T + 48);
        x.delta = x.ds + 64 * (T + 48);
        head_backward(&x);
    }
}
