// A block a row, 16 bytes at a time.
// Against 02: fewer loads and stores, and a long row has a whole block's threads.
//
//@ block  256 128 512
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "row.cuh"

template <bool packed>
__device__ inline void slope(F* dx, const F* dy, const F* y, int C) {
    constexpr int size = Packet<F>::size;
    __shared__ float room[32];
    float dot = 0.0f;
    for (int c = threadIdx.x * size; c < C; c += block * size) {
        Packet<F> a = load_columns<packed>(dy, c, C), b = load_columns<packed>(y, c, C);
#pragma unroll
        for (int j = 0; j < size; j++)
            if (c + j < C) dot = fmaf(to_float(a.at[j]), to_float(b.at[j]), dot);
    }
    dot = block_sum(dot, room);
    for (int c = threadIdx.x * size; c < C; c += block * size) {
        Packet<F> a = load_columns<packed>(dy, c, C), b = load_columns<packed>(y, c, C);
#pragma unroll
        for (int j = 0; j < size; j++) {
            a.at[j] = from_float<F>(to_float(b.at[j]) * (to_float(a.at[j]) - dot));
        }
        store_columns<packed>(dx, c, C, a);
    }
}

extern "C" __global__ void softmax_backward(F* dinp, const F* dout, const F* out, int C) {
    size_t row = (size_t)blockIdx.x * C;
    if (rows_in_packets(C, dinp, dout, out)) slope<true>(dinp + row, dout + row, out + row, C);
    else slope<false>(dinp + row, dout + row, out + row, C);
}
