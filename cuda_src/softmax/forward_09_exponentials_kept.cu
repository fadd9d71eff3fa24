// As 08, but the exponentials are kept, in float32, and scaled when their sum is known. WIDE
// packets a lane: 3 hold 768 columns of bfloat16, 6 as many of float32.
// Against 08: half of the exponentials, and no lane without columns at the widths of GPT-2; how the
// caches treat the rows is tuned (streams.cuh).
//
//@ block  128
//@ tune   WIDE 3 6
//@ tune   HINT 0 1 2
//@ grid   ceil_div(N, block / 32)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "row.cuh"
#include "streams.cuh"

constexpr int SIZE = Words<F>::size, SPAN = 32 * SIZE;

template <bool packed> __device__ inline void short_row(F* y, const F* x, int first, int C) {
    Words<F> some[WIDE];
    float e[WIDE][SIZE], largest = -INFINITY, sum = 0.0f;
#pragma unroll
    for (int k = 0; k < WIDE; k++) some[k] = read_some<packed>(x + first + k * SPAN,
                                                               C - first - k * SPAN);
#pragma unroll
    for (int k = 0; k < WIDE; k++)
#pragma unroll
        for (int j = 0; j < SIZE; j++) {
            bool there = first + k * SPAN + j < C;
            e[k][j] = there ? number(some[k], j) : -INFINITY;
            largest = fmaxf(largest, e[k][j]);  // may step over a NaN: the sum will not
        }
    largest = warp_max(largest);
#pragma unroll
    for (int k = 0; k < WIDE; k++)
#pragma unroll
        for (int j = 0; j < SIZE; j++) {
            e[k][j] = exponential<F>(e[k][j] - largest);
            sum += e[k][j];
        }
    float share = 1.0f / warp_sum(sum);
#pragma unroll
    for (int k = 0; k < WIDE; k++) {
#pragma unroll
        for (int j = 0; j < SIZE; j++) e[k][j] *= share;
        write_some<packed>(y + first + k * SPAN, as_words<F>(e[k]), C - first - k * SPAN);
    }
}

template <bool packed> __device__ inline void long_row(F* y, const F* x, int first, int C) {
    Online all;
    for (int c = first; c < C; c += SPAN) take(all, load_columns<packed>(x, c, C));
    all = warp_joined(all);
    for (int c = first; c < C; c += SPAN) {
        Words<F> some = read_some<packed>(x + c, C - c);
        float e[SIZE];
#pragma unroll
        for (int j = 0; j < SIZE; j++)
            e[j] = exponential<F>(number(some, j) - all.largest) / all.sum;
        write_some<packed>(y + c, as_words<F>(e), C - c);
    }
}

extern "C" __global__ void __launch_bounds__(block)
softmax_forward(F* out, const F* inp, int N, int C) {
    int n = blockIdx.x * (block / 32) + threadIdx.x / 32, first = threadIdx.x % 32 * SIZE;
    if (n >= N) return;
    const F* x = inp + (size_t)n * C;
    F* y = out + (size_t)n * C;
    bool packed = rows_in_packets(C, inp, out);
    if (C <= WIDE * SPAN) {
        if (packed) short_row<true>(y, x, first, C);
        else short_row<false>(y, x, first, C);
    } else {
        if (packed) long_row<true>(y, x, first, C);
        else long_row<false>(y, x, first, C);
    }
}
