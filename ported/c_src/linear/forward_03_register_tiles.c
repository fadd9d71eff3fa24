// A tile of 4 x 4 dot products shares its loads: 4 of inp and 4 of weight feed 16 multiplications.
// Against 02: half a load a multiplication instead of two. Nothing is packed.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

#define TILE 4
#define STRIPE 64  // rows of weight that stay in the cache while inp passes by: a multiple of TILE

// out[n..n+3, o..o+3]; rows behind the last repeat it and are not stored.
INLINE void tile(float* out, const float* inp, const float* weight, const float* bias,
                 ptrdiff_t n, ptrdiff_t o, ptrdiff_t N, ptrdiff_t C, ptrdiff_t O) {
    const float* x[TILE];
    const float* w[TILE];
    lanes sum[TILE][TILE];
    for (int i = 0; i < TILE; i++) {
        x[i] = inp + (n + i < N ? n + i : N - 1) * C;
        w[i] = weight + (o + i < O ? o + i : O - 1) * C;
        for (int j = 0; j < TILE; j++) {
            sum[i][j] = (lanes){0};
        }
    }
    for (ptrdiff_t c = 0; c < C; c += LANES) {
        lanes wc[TILE];
#pragma GCC unroll 4
        for (int j = 0; j < TILE; j++) {
            wc[j] = load(w[j] + c, C - c);
        }
#pragma GCC unroll 4
        for (int i = 0; i < TILE; i++) {
            lanes xc = load(x[i] + c, C - c);
#pragma GCC unroll 4
            for (int j = 0; j < TILE; j++) {
                sum[i][j] += xc * wc[j];
            }
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < TILE; i++) {
#pragma GCC unroll 4
        for (int j = 0; j < TILE; j++) {
            if (n + i < N && o + j < O) {
                out[(n + i) * O + o + j] = sum_of(sum[i][j]) + bias[o + j];
            }
        }
    }
}

void linear_forward(float* out, const float* inp, const float* weight, const float* bias, int N,
                    int C, int O, int threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (ptrdiff_t stripe = 0; stripe < O; stripe += STRIPE) {
        ptrdiff_t end = stripe + STRIPE < O ? stripe + STRIPE : O;
        for (ptrdiff_t n = 0; n < N; n += TILE) {
            for (ptrdiff_t o = stripe; o < end; o += TILE) {
                tile(out, inp, weight, bias, n, o, N, C, O);
            }
        }
    }
}
