// A warp a row that stays in registers, WIDE packets of a lane: up to 512 columns in float32, 1024
// in bfloat16 with WIDE 4. A longer row is walked as in 05, in packets.
// Against 07: no shared memory, no barrier, and rows of about a thousand columns fill every lane.
//
//@ block  128 256
//@ tune   WIDE 4 8
//@ grid   ceil_div(N, block / 32)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "row.cuh"

constexpr int SIZE = Packet<F>::size, SPAN = 32 * SIZE;

__device__ inline void to_output(Packet<F>& some, float largest, float share) {
#pragma unroll
    for (int j = 0; j < SIZE; j++) {
        some.at[j] = from_float<F>(share * exponential<F>(to_float(some.at[j]) - largest));
    }
}

template <bool packed> __device__ inline void short_row(F* y, const F* x, int first, int C) {
    Packet<F> some[WIDE];
    float largest = -INFINITY, sum = 0.0f;
#pragma unroll
    for (int k = 0; k < WIDE; k++) some[k] = load_columns<packed>(x, first + k * SPAN, C);
#pragma unroll
    for (int k = 0; k < WIDE; k++)
#pragma unroll
        for (int j = 0; j < SIZE; j++) largest = fmaxf(largest, to_float(some[k].at[j]));
    largest = warp_max(largest);
#pragma unroll
    for (int k = 0; k < WIDE; k++)
#pragma unroll
        for (int j = 0; j < SIZE; j++) sum += exponential<F>(to_float(some[k].at[j]) - largest);
    float share = 1.0f / warp_sum(sum);
#pragma unroll
    for (int k = 0; k < WIDE; k++) {
        to_output(some[k], largest, share);
        store_columns<packed>(y, first + k * SPAN, C, some[k]);
    }
}

template <bool packed> __device__ inline void long_row(F* y, const F* x, int first, int C) {
    Online all;
    for (int c = first; c < C; c += SPAN) take(all, load_columns<packed>(x, c, C));
    all = warp_joined(all);
    for (int c = first; c < C; c += SPAN) {
        Packet<F> some = load_columns<packed>(x, c, C);
        to_output(some, all.largest, 1.0f / all.sum);
        store_columns<packed>(y, c, C, some);
    }
}

extern "C" __global__ void softmax_forward(F* out, const F* inp, int N, int C) {
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
