// A warp a row that stays in registers: WIDE packets of each array a lane; a longer row is walked
// twice. Against 03: a short row is read once, and no barrier is left.
//
//@ block  128 256
//@ tune   WIDE 4 2
//@ grid   ceil_div(N, block / 32)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "row.cuh"

constexpr int SIZE = Packet<F>::size, SPAN = 32 * SIZE;

__device__ inline float dot_of(const Packet<F>& a, const Packet<F>& b, int c, int C, float dot) {
#pragma unroll
    for (int j = 0; j < SIZE; j++)
        if (c + j < C) dot = fmaf(to_float(a.at[j]), to_float(b.at[j]), dot);
    return dot;
}
__device__ inline void to_slope(Packet<F>& dy, const Packet<F>& y, float dot) {
#pragma unroll
    for (int j = 0; j < SIZE; j++) {
        dy.at[j] = from_float<F>(to_float(y.at[j]) * (to_float(dy.at[j]) - dot));
    }
}

template <bool packed>
__device__ inline void short_row(F* dx, const F* dy, const F* y, int first, int C) {
    Packet<F> a[WIDE], b[WIDE];
    float dot = 0.0f;
#pragma unroll
    for (int k = 0; k < WIDE; k++) {
        a[k] = load_columns<packed>(dy, first + k * SPAN, C);
        b[k] = load_columns<packed>(y, first + k * SPAN, C);
    }
#pragma unroll
    for (int k = 0; k < WIDE; k++) dot = dot_of(a[k], b[k], first + k * SPAN, C, dot);
    dot = warp_sum(dot);
#pragma unroll
    for (int k = 0; k < WIDE; k++) {
        to_slope(a[k], b[k], dot);
        store_columns<packed>(dx, first + k * SPAN, C, a[k]);
    }
}

template <bool packed>
__device__ inline void long_row(F* dx, const F* dy, const F* y, int first, int C) {
    float dot = 0.0f;
    for (int c = first; c < C; c += SPAN) {
        dot = dot_of(load_columns<packed>(dy, c, C), load_columns<packed>(y, c, C), c, C, dot);
    }
    dot = warp_sum(dot);
    for (int c = first; c < C; c += SPAN) {
        Packet<F> a = load_columns<packed>(dy, c, C);
        to_slope(a, load_columns<packed>(y, c, C), dot);
        store_columns<packed>(dx, c, C, a);
    }
}

extern "C" __global__ void softmax_backward(F* dinp, const F* dout, const F* out, int N, int C) {
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
