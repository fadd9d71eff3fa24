// The gradient of the positions' table, the same for every rung from 02 on.
#pragma once
#include "elements.cuh"

// dwpe[t, c..] for the packet `number` of T rows of packets: the sequences in order, EACH of them
// on their way at a time.
template <bool packed, int EACH = 8>
__device__ inline void add_positions(G* dwpe, const R* dout, int64_t number, int B, int T, int C) {
    constexpr int size = Packet<R>::size;
    int across = (C + size - 1) / size;
    if (number >= (int64_t)T * across) return;
    int64_t t = number / across;
    int c = (number - t * across) * size;
    float sum[size] = {};
    for (int first = 0; first < B; first += EACH) {
        Packet<R> d[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            if (first + k < B) {
                d[k] = load_some<packed>(dout + ((size_t)(first + k) * T + t) * C + c, C - c);
            }
        }
#pragma unroll
        for (int k = 0; k < EACH; k++) {
#pragma unroll
            for (int j = 0; j < size; j++)
                if (first + k < B) sum[j] += to_float(d[k].at[j]);
        }
    }
#pragma unroll
    for (int j = 0; j < size; j++)
        if (c + j < C) dwpe[t * C + c + j] += sum[j];
}
// Launched with a thread a packet: ceil_div(T * ceil_div(C, 4), blockDim.x) blocks are enough.
__device__ inline void positions(G* dwpe, const R* dout, int B, int T, int C) {
    int64_t number = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    bool packed = C % Packet<R>::size == 0 && is_aligned(dout);
    if (packed) add_positions<true>(dwpe, dout, number, B, T, C);
    else add_positions<false>(dwpe, dout, number, B, T, C);
}
