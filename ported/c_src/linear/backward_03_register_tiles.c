// Both products from one tile of 8 x 48 sums that stay in registers while k runs: 3 loads and 8
// broadcasts feed 24 multiplications. Nothing is packed.
// Against 02: a sum is stored once, not once for every k.
//
//@ dtype   all=float32
//@ claims  deterministic batch_invariant
#include "common.h"

#if defined(__AVX512F__)
#define ROWS 8
#define VECTORS 3
#else
#define ROWS 4
#define VECTORS 1
#endif

// out[i..i+7, j..j+47] (+)= sum over k of a[i * row + k * column] * b[k, :]: rows behind the last
// repeat it and are not stored.
INLINE void tile(float* out, int add, const float* a, ptrdiff_t row, ptrdiff_t column,
                 const float* b, ptrdiff_t i0, ptrdiff_t j0, ptrdiff_t M, ptrdiff_t N,
                 ptrdiff_t K) {
    const float* from[ROWS];
    lanes sum[ROWS][VECTORS];
    for (int i = 0; i < ROWS; i++) {
        from[i] = a + (i0 + i < M ? i0 + i : M - 1) * row;
        for (int j = 0; j < VECTORS; j++) {
            sum[i][j] = (lanes){0};
        }
    }
    ptrdiff_t left[VECTORS];  // lanes that exist
    for (int j = 0; j < VECTORS; j++) {
        left[j] = N - j0 - j * LANES > 0 ? N - j0 - j * LANES : 0;
    }
    for (ptrdiff_t k = 0; k < K; k++) {
        lanes bk[VECTORS];
#pragma GCC unroll 3
        for (int j = 0; j < VECTORS; j++) {
            bk[j] = load(b + k * N + j0 + (left[j] ? j * LANES : 0), left[j]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            lanes ak = every(from[i][k * column]);
#pragma GCC unroll 3
            for (int j = 0; j < VECTORS; j++) {
                sum[i][j] += ak * bk[j];
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
#pragma GCC unroll 3
        for (int j = 0; j < VECTORS; j++) {
            if (i0 + i < M && left[j]) {
                float* to = out + (i0 + i) * N + j0 + j * LANES;
                store(to, add ? load(to, left[j]) + sum[i][j] : sum[i][j], left[j]);
            }
        }
    }
}

void linear_backward(float* dinp, float* dweight, float* dbias, const float* dout,
                     const float* inp, const float* weight, int N, int C, int O, int threads) {
#pragma omp parallel num_threads(threads)
    {
#pragma omp for collapse(2) schedule(dynamic) nowait
        for (ptrdiff_t c = 0; c < C; c += VECTORS * LANES) {
            for (ptrdiff_t n = 0; n < N; n += ROWS) {
                tile(dinp, 0, dout, O, 1, weight, n, c, N, C, O);
            }
        }
#pragma omp for collapse(2) schedule(dynamic) nowait
        for (ptrdiff_t c = 0; c < C; c += VECTORS * LANES) {
            for (ptrdiff_t o = 0; o < O; o += ROWS) {
                tile(dweight, 1, dout, 1, O, inp, o, c, O, C, N);
            }
        }
#pragma omp for
        for (ptrdiff_t o = 0; o < O; o += LANES) {
            lanes sum = {0};
            for (ptrdiff_t n = 0; n < N; n++) {
                sum += load(dout + n * O + o, O - o);
            }
            store(dbias + o, load(dbias + o, O - o) + sum, O - o);
        }
    }
}
