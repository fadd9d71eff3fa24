// Products of matrices, out[M, N] = A[M, K] B[K, N], from register tiles over packed panels, after
// Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
//
//   out is cut into tiles of ROWS x COLUMNS, held in registers while k runs over a block: for each
//   k a tile reads COLUMNS of B as vectors and ROWS of A, a broadcast each.
//   B is packed, BLOCK_K x BLOCK_N at a time, into panels [k][COLUMNS] that stay in the second
//   cache; a tile reads its panel in order. ROWS rows of A stay in the first cache meanwhile.
//   A is read where it lies if it is contiguous in k, and otherwise packed into panels [k][ROWS].
//
// An element of out is summed over k in chains of at most CHAIN fused multiply-adds, and the chains
// are added one after the other. How k is cut depends on K alone: so results do not depend on
// threads, on how out is cut, or on the number of other rows and columns.
#pragma once
#include <omp.h>
#include <stdint.h>
#include "common.h"

#if defined(__AVX512F__)
#define ROWS 8  // registers: 24 sums, 3 of B, a broadcast, of 32
#define VECTORS 3
#elif defined(__AVX__)
#define ROWS 6  // 12 sums, 2 of B, a broadcast, of 16
#define VECTORS 1
#elif defined(__aarch64__)
#define ROWS 6  // 24 sums, 4 of B, a broadcast, of 32
#define VECTORS 1
#else
#define ROWS 2  // 8 sums, 4 of B, a broadcast, of 16
#define VECTORS 1
#endif
#define COLUMNS (VECTORS * LANES)
#define BLOCK_K 512
#define BLOCK_N 384          // columns of B that are packed at a time: a multiple of COLUMNS
#define CHAIN 128            // terms that are summed one after the other, at most
#define BLOCK_M (8 * ROWS)   // rows of A that are packed at a time, at most 64
// Floats of scratch for a thread: `//@ scratch work F32["threads*(512*384+64*514+16)"]`.
#define GEMM_SCRATCH (BLOCK_K * BLOCK_N + 64 * (BLOCK_K + 2) + 16)

typedef struct {
    const float* at;  // element (i, j) is at[i * row + j * column]; one of the two strides is 1
    int64_t row, column;
} Matrix;

typedef struct {
    float* at;           // out[M, N], its rows `row` apart
    int64_t row;
    int add;             // 1: the product is added to what stands there
    const float* bias;   // [N] or NULL: added
    const float* slope;  // [M, N] or NULL: multiplied by gelu'(slope)
    float* gelu;         // [M, N] or NULL: gelu(out) goes here besides
    float* row_sum;      // [M] or NULL: the row sums of a packed A are added (a bias gradient)
} Target;

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
INLINE float* aligned(float* p) { return (float*)(((uintptr_t)p + 63) & ~(uintptr_t)63); }

// gelu(x) = x (1 + tanh(u)) / 2 = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3).
INLINE lanes gelu_of(lanes x) {
    const float k = 0.7978845608028654f;
    lanes u = x * (k + k * 0.044715f * (x * x));
    return x / (1.0f + exp_of(-2.0f * u));
}

// gelu'(x), with e = exp(-2|u|) and s = 1 / (1 + e):  (s, or e s where x < 0) + x e s^2 2 du/dx.
INLINE lanes gelu_slope_of(lanes x) {
    const float k = 0.7978845608028654f;
    lanes y = smaller(every(20.0f), larger(-x, x));  // x^2 = inf must not meet e = 0
    lanes e = exp_of(-2.0f * y * (k + k * 0.044715f * (y * y)));
    lanes s = 1.0f / (1.0f + e);
    lanes du = k + 3.0f * k * 0.044715f * (y * y);
    return choose(x < 0.0f, e * s, s) + x * (e * s * s) * (2.0f * du);
}

// The 16 floats at p, as a plain read: GCC keeps sums in registers across it, not across load().
INLINE lanes load_all(const float* p) {
    typedef lanes anywhere __attribute__((aligned(4), may_alias));
    return *(const anywhere*)p;
}

// The sums to `to`, or onto what stands there; the last of the vectors has n lanes.
INLINE void tile_store(float* to, int64_t row, int add, lanes sum[ROWS][VECTORS], int vectors,
                       int rows, int n) {
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
        if (i < rows) {
#pragma GCC unroll 3
            for (int j = 0; j < vectors; j++) {
                float* p = to + i * row + j * LANES;
                int some = j < vectors - 1 ? LANES : n;
                store(p, add ? load(p, some) + sum[i][j] : sum[i][j], some);
            }
        }
    }
}

// One tile over one chain of k: a[i][at + k * step] is element (i, k) of A, b a packed panel. From
// `soon` on, two floats for each k are brought near: the second cache gets them unasked for.
INLINE void tile(float* to, int64_t row, int add, int64_t K, const float* const a[ROWS],
                 int64_t at, int64_t step, const float* b, const float* soon, int vectors,
                 int rows, int n) {
    lanes sum[ROWS][VECTORS];
    const float* from[ROWS];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; i++) {
        from[i] = a[i];
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++) {
            sum[i][j] = (lanes){0};
        }
    }
#pragma GCC unroll 1
    for (; K > 0; K--, b += COLUMNS, at += step, soon += 2) {
        __builtin_prefetch(soon, 0, 2);
        lanes bk[VECTORS];
#pragma GCC unroll 3
        for (int j = 0; j < vectors; j++) {
            bk[j] = load_all(b + j * LANES);
        }
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; i++) {
            lanes ak = every(from[i][at]);
#pragma GCC unroll 3
            for (int j = 0; j < vectors; j++) {
                sum[i][j] += ak * bk[j];
            }
        }
    }
    if (add) {
        tile_store(to, row, 1, sum, vectors, rows, n);
    } else {
        tile_store(to, row, 0, sum, vectors, rows, n);
    }
}

// Functions of their own, so that the loop's pointers find registers.
#define TILE(name, vectors)                                                                      \
    static __attribute__((noinline, unused)) void name(                                          \
        float* to, int64_t row, int add, int64_t K, const float* const a[ROWS], int64_t at,      \
        int64_t step, const float* b, const float* soon, int rows, int n) {                      \
        tile(to, row, add, K, a, at, step, b, soon, vectors, rows, n);                           \
    }
TILE(tile_1, 1)
TILE(tile_2, VECTORS > 1 ? 2 : 1)
TILE(tile_all, VECTORS)

// What the target asks for beyond the product, on a tile that has just been stored.
static void finish(const Target* out, int64_t i0, int64_t j0, int rows, int64_t columns) {
    for (int i = 0; i < rows; i++) {
        for (int64_t j = j0; j < j0 + columns; j += LANES) {
            int64_t at = (i0 + i) * out->row + j, left = j0 + columns - j;
            lanes x = load(out->at + at, left);
            if (out->bias) {
                x += load(out->bias + j, left);
            }
            if (out->slope) {
                x *= gelu_slope_of(load(out->slope + at, left));
            }
            store(out->at + at, x, left);
            if (out->gelu) {
                store(out->gelu + at, gelu_of(x), left);
            }
        }
    }
}

// Memory that will be wanted: `rows` rows of `width` floats, taken in pieces.
typedef struct {
    const float* at;
    int64_t row, width, rows, column;
} Ahead;

// The next piece, of n floats at most; `near` where nothing is left.
INLINE const float* take(Ahead* ahead, int64_t n, const float* near) {
    if (!ahead || ahead->rows <= 0) {
        return near;
    }
    const float* piece = ahead->at + ahead->column;
    ahead->column += n;
    if (ahead->column >= ahead->width) {
        ahead->column = 0;
        ahead->rows--;
        ahead->at += ahead->row;
    }
    return piece;
}

// The tile of out at (i, j), of any number of rows and columns up to ROWS and COLUMNS, over one
// block of k, in chains of at most CHAIN terms; `first` and `last` of the blocks.
static void any_tile(const Target* out, int64_t i, int64_t j, int rows, int64_t columns,
                     int64_t K, const float* const a[ROWS], int64_t step, const float* b,
                     int first, int last, Ahead* ahead) {
    float* to = out->at + i * out->row + j;
    int n = (int)((columns - 1) % LANES) + 1, add = !first || out->add;
    for (int r = 0; r < rows && add; r++) {  // needed when the sums are done
        for (int c = 0; c < columns; c += LANES) {
            __builtin_prefetch(to + r * out->row + c, 1, 2);
        }
    }
    int64_t chain = K > 0 ? ceil_div(K, ceil_div(K, CHAIN)) : 1, k = 0;
    do {  // once even where K is 0: the tile becomes 0
        (columns > (VECTORS - 1) * LANES ? tile_all : columns > LANES ? tile_2 : tile_1)(
            to, out->row, add, least(chain, K - k), a, k * step, step, b + k * COLUMNS,
            take(ahead, 2 * chain, b), rows, n);
        add = 1;
        k += chain;
    } while (k < K);
    if (last && (out->bias || out->slope || out->gelu)) {
        finish(out, i, j, rows, columns);
    }
}

// B[K, N], contiguous in j, into panels [k][COLUMNS] one after the other. Lanes behind N become
// zeros, and their sums are thrown away.
static void pack_rows(float* panels, Matrix B, int64_t K, int64_t N) {
    for (int64_t k = 0; k < K; k++) {
        const float* from = B.at + k * B.row;
        float* to = panels + k * COLUMNS;
        int64_t j = 0;
        for (; j + COLUMNS <= N; j += COLUMNS, to += K * COLUMNS) {
#pragma GCC unroll 3
            for (int v = 0; v < VECTORS; v++) {
                store(to + v * LANES, load(from + j + v * LANES, LANES), LANES);
            }
        }
        for (; j < N; j += LANES, to += LANES) {
            store(to, load(from + j, N - j), LANES);
        }
    }
}

// A square of 16 rows becomes its columns: each round interleaves one half with the other.
INLINE void transpose(lanes r[LANES]) {
    const int_lanes low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
#pragma GCC unroll 4
    for (int round = 0; round < 4; round++) {
        lanes t[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            t[2 * i] = __builtin_shuffle(r[i], r[i + LANES / 2], low);
            t[2 * i + 1] = __builtin_shuffle(r[i], r[i + LANES / 2], low + LANES / 2);
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) {
            r[i] = t[i];
        }
    }
}

// The same as pack_rows for a B that is contiguous in k.
static void pack_columns(float* panels, Matrix B, int64_t K, int64_t N) {
    for (int64_t j = 0; j < N; j += LANES) {
        float* to = panels + j / COLUMNS * COLUMNS * K + j % COLUMNS;
        const float* from = B.at + j * B.column;
        int64_t n = least(LANES, N - j), k = 0;
#if defined(__AVX512F__)
        for (; n == LANES && k + LANES <= K; k += LANES) {
            lanes r[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                r[i] = load(from + i * B.column + k, LANES);
            }
            transpose(r);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                store(to + (k + i) * COLUMNS, r[i], LANES);
            }
        }
#endif
        for (; k < K; k++) {
            for (int64_t i = 0; i < LANES; i++) {
                to[k * COLUMNS + i] = i < n ? from[i * B.column + k] : 0.0f;
            }
        }
    }
}

// A[M, K], M <= BLOCK_M, contiguous in i, into panels [k][ROWS]; its row sums if asked for. Panels
// are two rows further apart than they need be, so that not all lie in the same lines of a cache.
#define PANEL_A(K) (((K) + 2) * ROWS)
static void pack_a(float* panels, Matrix A, int64_t M, int64_t K, float* row_sum) {
    float sum[BLOCK_M] = {0};
    for (int64_t k = 0; k < K; k++) {
        const float* from = A.at + k * A.column;
        for (int64_t i = 0; M == BLOCK_M && i < BLOCK_M; i += ROWS) {
            memcpy(panels + i / ROWS * PANEL_A(K) + k * ROWS, from + i, ROWS * sizeof(float));
        }
        for (int64_t i = 0; M < BLOCK_M && i < M; i++) {
            panels[i / ROWS * PANEL_A(K) + k * ROWS + i % ROWS] = from[i];
        }
        for (int64_t i = 0; row_sum && i < M; i++) {
            sum[i] += from[i];
        }
    }
    for (int64_t i = 0; row_sum && i < M; i++) {
        row_sum[i] += sum[i];
    }
}

// Rows i0..i1 of out in the columns of one packed block of B, over one block of k.
static void multiply_block(const Target* out, Matrix A, const float* bp, float* ap, int64_t i0,
                           int64_t i1, int64_t j0, int64_t N, int64_t K, int first, int last,
                           Ahead ahead) {
    int packed = A.row == 1;
    for (int64_t i = i0; i < i1; i += ROWS) {
        if (packed && (i - i0) % BLOCK_M == 0) {
            Matrix from = {A.at + i, A.row, A.column};
            float* row_sum = out->row_sum && j0 == 0 ? out->row_sum + i : NULL;
            pack_a(ap, from, least(BLOCK_M, i1 - i), K, row_sum);
        }
        int rows = (int)least(ROWS, i1 - i);
        const float* a[ROWS];  // rows behind the last repeat it and are thrown away
        for (int r = 0; r < ROWS; r++) {
            int real = r < rows ? r : rows - 1;
            a[r] = packed ? ap + (i - i0) % BLOCK_M / ROWS * PANEL_A(K) + real
                          : A.at + (i + real) * A.row;
        }
        for (int64_t j = 0; j < N; j += COLUMNS) {
            int64_t columns = least(COLUMNS, N - j);
            const float* b = bp + j * K;
            any_tile(out, i, j0 + j, rows, columns, K, a, packed ? ROWS : 1, b, first, last,
                     &ahead);
        }
    }
}

// The part of B that is packed after the one at (k, j): further down, or the next columns' first.
static Ahead next_block(Matrix B, int64_t k, int64_t depth, int64_t j, int64_t j1, int64_t K) {
    k = k + depth < K ? k + depth : 0;
    j = k ? j : j + BLOCK_N;
    int64_t rows = least(depth, K - k), columns = j < j1 ? least(BLOCK_N, j1 - j) : 0;
    const float* at = B.at + k * B.row + j * B.column;
    return B.column == 1 ? (Ahead){at, B.row, columns, columns ? rows : 0, 0}
                         : (Ahead){at, B.column, rows, columns, 0};
}

// Rows i0..i1 and columns j0..j1 of out, by one thread with its own scratch.
static void multiply(const Target* out, Matrix A, Matrix B, int64_t i0, int64_t i1, int64_t j0,
                     int64_t j1, int64_t K, float* scratch) {
    float* bp = aligned(scratch);
    float* ap = bp + BLOCK_K * BLOCK_N;
    int64_t block = ceil_div(K, ceil_div(K, BLOCK_K));
    for (int64_t j = j0; j < j1; j += BLOCK_N) {
        int64_t columns = least(BLOCK_N, j1 - j);
        for (int64_t k = 0; k < K; k += block) {
            int64_t depth = least(block, K - k);
            Matrix a = {A.at + k * A.column, A.row, A.column};
            Matrix b = {B.at + k * B.row + j * B.column, B.row, B.column};
            Ahead next = next_block(B, k, depth, j, j1, K);
            b.column == 1 ? pack_rows(bp, b, depth, columns) : pack_columns(bp, b, depth, columns);
            multiply_block(out, a, bp, ap, i0, i1, j, columns, depth, k == 0, k + depth == K, next);
        }
    }
}

// The length of equal parts of `whole`: a multiple of `unit`, at most about `most`, and as many
// parts as a multiple of `threads`.
INLINE int64_t part(int64_t whole, int64_t unit, int64_t most, int threads) {
    int64_t parts = ceil_div(ceil_div(whole, most), threads) * threads;
    return ceil_div(ceil_div(whole, unit), parts) * unit;
}

// out[M, N] = A[M, K] B[K, N], to be called by every thread of a parallel region; nobody waits at
// the end. The threads share out one edge of out: each of them packs all of what lies along the
// other edge, so where both operands are packed it is the longer one. Where A is read in place it
// is the columns, if they suffice.
static void gemm(const Target* out, Matrix A, Matrix B, int64_t M, int64_t N, int64_t K,
                 int threads, float* scratch) {
    int by_rows = A.row == 1 ? M >= N : N < 2 * COLUMNS * threads;
    int64_t rows = by_rows ? part(M, ROWS, 2048, threads) : M;
    int64_t columns = by_rows ? N : part(N, COLUMNS, BLOCK_N, threads);
    int64_t down = ceil_div(M, rows), across = ceil_div(N, columns);
    float* mine = scratch + (size_t)omp_get_thread_num() * GEMM_SCRATCH;
#pragma omp for schedule(dynamic) nowait
    for (int64_t task = 0; task < down * across; task++) {
        int64_t i = task / across * rows, j = task % across * columns;
        multiply(out, A, B, i, least(i + rows, M), j, least(j + columns, N), K, mine);
    }
}
