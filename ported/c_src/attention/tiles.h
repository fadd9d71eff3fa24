// What the tiled attention kernels share: one head's rows as packed panels, and products of ROWS
// rows at a time on gemm.h's register tile.
#pragma once
#include "../gemm.h"

// Channels in a panel: D in equal parts, so that 64 is 32 + 32 and not 48 + 16.
INLINE int64_t part_of(int64_t D) {
    return ceil_div(ceil_div(D, LANES), ceil_div(D, COLUMNS)) * LANES;
}

// x[T, D], rows `row` apart, into panels [T][COLUMNS], a part of D each.
static void pack_head(float* panels, const float* x, int64_t row, int64_t T, int64_t D) {
    for (int64_t d = 0; d < D; d += part_of(D), panels += T * COLUMNS) {
        Matrix from = {x + d, row, 1};
        pack_rows(panels, from, T, least(part_of(D), D - d));
    }
}

// Pointers to `rows` rows `row` apart; the last one is repeated up to ROWS.
INLINE void point(const float* a[ROWS], const float* x, int64_t row, int rows) {
    for (int r = 0; r < ROWS; r++) {
        a[r] = x + (r < rows ? r : rows - 1) * row;
    }
}

// out[rows, D] = sum over k < K of a[r][k * step] * panels[k, :], or added to what stands there.
INLINE void times_panels(float* out, int64_t row, int add, const float* const a[ROWS],
                         int64_t step, int64_t K, const float* panels, int64_t T, int64_t D,
                         int rows) {
    Target target = {.at = out, .row = row, .add = add};
    for (int64_t d = 0; d < D; d += part_of(D), panels += T * COLUMNS) {
        any_tile(&target, 0, d, rows, least(part_of(D), D - d), K, a, step, panels, 1, 1,
                 NULL);
    }
}

// scores[rows, 0..keys) = a[rows, D] times the packed columns of keys.
INLINE void score(float* scores, int64_t row, const float* const a[ROWS], const float* columns,
                  int64_t keys, int64_t D, int rows) {
    Target target = {.at = scores, .row = row};
    for (int64_t s = 0; s < keys; s += COLUMNS) {
        any_tile(&target, 0, s, rows, least(COLUMNS, keys - s), D, a, 1, columns + s * D, 1, 1,
                 NULL);
    }
}

// y[:] += sum over i < n of w[i * step] * x[i * row + :], D channels.
INLINE void add_rows(float* y, const float* w, int64_t step, const float* x, int64_t row,
                     int64_t n, int64_t D) {
    for (int64_t d = 0; d < D; d += LANES) {
        lanes sum = load(y + d, D - d);
        for (int64_t i = 0; i < n; i++) {
            sum += w[i * step] * load(x + i * row + d, D - d);
        }
        store(y + d, sum, D - d);
    }
}
