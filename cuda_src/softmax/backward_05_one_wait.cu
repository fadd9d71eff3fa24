// As 04, but a row's packets lie in registers as the words they are, WIDE of each array a lane: 3
// hold 768 columns of bfloat16, 6 as many of float32; how the caches treat the rows is tuned
// (streams.cuh). Columns that are not there are zeros, which add nothing.
// Against 04: no lane without columns at 768 of them, half the registers, and no question at every
// number whether it is there.
//
//@ block  128 64
//@ tune   WIDE 3 6
//@ tune   HINT 0 1 2
//@ grid   ceil_div(N, block / 32)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "row.cuh"
#include "streams.cuh"

constexpr int SIZE = Words<F>::size, SPAN = 32 * SIZE;

__device__ inline float dot_of(const Words<F>& a, const Words<F>& b, float dot) {
#pragma unroll
    for (int j = 0; j < SIZE; j++) dot = fmaf(number(a, j), number(b, j), dot);
    return dot;
}
__device__ inline Words<F> slope(const Words<F>& dy, const Words<F>& y, float dot) {
    float dx[SIZE];
#pragma unroll
    for (int j = 0; j < SIZE; j++) dx[j] = number(y, j) * (number(dy, j) - dot);
    return as_words<F>(dx);
}

template <bool packed>
__device__ inline void short_row(F* dx, const F* dy, const F* y, int first, int C) {
    Words<F> a[WIDE], b[WIDE];
    float dot = 0.0f;
#pragma unroll
    for (int k = 0; k < WIDE; k++) {
        int c = first + k * SPAN;
        a[k] = read_some<packed>(dy + c, C - c);
        b[k] = read_some<packed>(y + c, C - c);
    }
#pragma unroll
    for (int k = 0; k < WIDE; k++) dot = dot_of(a[k], b[k], dot);
    dot = warp_sum(dot);
#pragma unroll
    for (int k = 0; k < WIDE; k++) {
        int c = first + k * SPAN;
        write_some<packed>(dx + c, slope(a[k], b[k], dot), C - c);
    }
}

template <bool packed>
__device__ inline void long_row(F* dx, const F* dy, const F* y, int first, int C) {
    float dot = 0.0f;
    for (int c = first; c < C; c += SPAN)
        dot = dot_of(read_some<packed>(dy + c, C - c), read_some<packed>(y + c, C - c), dot);
    dot = warp_sum(dot);
    for (int c = first; c < C; c += SPAN) {
        Words<F> a = read_some<packed>(dy + c, C - c), b = read_some<packed>(y + c, C - c);
        write_some<packed>(dx + c, slope(a, b, dot), C - c);
    }
}

extern "C" __global__ void __launch_bounds__(block)
softmax_backward(F* dinp, const F* dout, const F* out, int N, int C) {
    int n = blockIdx.x * (block / 32) + threadIdx.x / 32, first = threadIdx.x % 32 * SIZE;
    if (n >= N) return;
    size_t row = (size_t)n * C;
    bool packed = rows_in_packets(C, dinp, dout, out);
    if (C <= WIDE * SPAN) {
        if (packed) short_row<true>(dinp + row, dout + row, out + row, first, C);
        else short_row<false>(dinp + row, dout + row, out + row, first, C);
    } else {
        if (packed) long_row<true>(dinp + row, dout + row, out + row, first, C);
        else long_row<false>(dinp + row, dout + row, out + row, first, C);
    }
}
