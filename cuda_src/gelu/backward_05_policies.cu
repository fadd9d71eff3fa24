// 04 on packets that stay the four words they are, under a tuned policy of the caches
// (streams.cuh).
// Against 04: a number of a packet takes no register of its own, so that more threads are at work.
//
//@ block   256
//@ tune    ITEMS 8 16
//@ tune    HINT 2 0
//@ grid    ceil_div(N * C, block * ITEMS)
//@ dtype   F=bfloat16
//@ inplace dinp=dout
//@ claims  deterministic batch_invariant no_atomics
#include "gelu.cuh"
#include "streams.cuh"

template <bool packed>
__device__ inline void each(F* dinp, const F* dout, const F* inp, int64_t count) {
    constexpr int size = Words<F>::size, packets = ITEMS / size;
    int64_t first = (int64_t)blockIdx.x * block * ITEMS + threadIdx.x * size;
    Words<F> d[packets], x[packets];
#pragma unroll
    for (int k = 0; k < packets; k++) {
        int64_t i = first + k * block * size;
        d[k] = read_some<packed>(dout + i, count - i);
        x[k] = read_some<packed>(inp + i, count - i);
    }
#pragma unroll
    for (int k = 0; k < packets; k++) {
        int64_t i = first + k * block * size;
        float y[size];
#pragma unroll
        for (int j = 0; j < size; j++) y[j] = number(d[k], j) * slope_by_hardware(number(x[k], j));
        write_some<packed>(dinp + i, as_words<F>(y), count - i);
    }
}

extern "C" __global__ void gelu_backward(F* dinp, const F* dout, const F* inp, int N, int C) {
    if (is_aligned(dinp, dout, inp)) each<true>(dinp, dout, inp, (int64_t)N * C);
    else each<false>(dinp, dout, inp, (int64_t)N * C);
}
