// The hardware's own 2^x and 1/x, an instruction each, so that the memory and not the arithmetic
// is waited for. Not tanh.approx: its error of 2^-11 is as large as the result where 1 + tanh u is
// small.
// Against 03: exp2_fast and reciprocal_fast (common.cuh), bfloat16 only.
//
//@ block   256 512
//@ tune    ITEMS 16 8
//@ grid    ceil_div(N * C, block * ITEMS)
//@ dtype   F=bfloat16
//@ inplace dinp=dout
//@ claims  deterministic batch_invariant no_atomics
#include "gelu.cuh"

template <bool packed>
__device__ inline void each(F* dinp, const F* dout, const F* inp, int64_t count) {
    constexpr int size = Packet<F>::size, packets = ITEMS / size;
    int64_t first = (int64_t)blockIdx.x * block * ITEMS + threadIdx.x * size;
    Packet<F> d[packets], x[packets];
#pragma unroll
    for (int k = 0; k < packets; k++) {
        int64_t i = first + k * block * size;
        d[k] = load_some<packed>(dout + i, count - i);
        x[k] = load_some<packed>(inp + i, count - i);
    }
#pragma unroll
    for (int k = 0; k < packets; k++) {
        int64_t i = first + k * block * size;
#pragma unroll
        for (int j = 0; j < size; j++) {
            float slope = slope_by_hardware(to_float(x[k].at[j]));
            d[k].at[j] = from_float<F>(to_float(d[k].at[j]) * slope);
        }
        store_some<packed>(dinp + i, d[k], count - i);
    }
}

extern "C" __global__ void gelu_backward(F* dinp, const F* dout, const F* inp, int N, int C) {
    if (is_aligned(dinp, dout, inp)) each<true>(dinp, dout, inp, (int64_t)N * C);
    else each<false>(dinp, dout, inp, (int64_t)N * C);
}
