// As residual_forward_04: eight numbers a thread, in many small blocks, under a tuned policy of the
// caches (streams.cuh); the packet is written as it was read.
// Against 02: no number is taken apart.
//
//@ block   128 512
//@ tune    HINT 0 1 2
//@ grid    ceil_div(N * C, block * 8)
//@ dtype   all=float32 | F=bfloat16 R=bfloat16
//@ inplace dinp1=dout
//@ claims  deterministic batch_invariant no_atomics
#include "streams.cuh"

template <bool packed>
__device__ inline void copy(R* dinp1, F* dinp2, const R* dout, int64_t count) {
    constexpr int size = Words<R>::size, packets = 8 / size;
    int64_t first = (int64_t)blockIdx.x * block * 8 + threadIdx.x * size;
    Words<R> d[packets];
#pragma unroll
    for (int k = 0; k < packets; k++) {
        int64_t i = first + k * block * size;
        d[k] = read_some<packed>(dout + i, count - i);
    }
#pragma unroll
    for (int k = 0; k < packets; k++) {
        int64_t i = first + k * block * size;
        write_some<packed>(dinp1 + i, d[k], count - i);
        write_some<packed>(dinp2 + i, as_role<F>(d[k]), count - i);
    }
}

extern "C" __global__ void residual_backward(R* dinp1, F* dinp2, const R* dout, int N, int C) {
    if (is_aligned(dinp1, dinp2, dout)) copy<true>(dinp1, dinp2, dout, (int64_t)N * C);
    else copy<false>(dinp1, dinp2, dout, (int64_t)N * C);
}
