// (1 + tanh u) / 2 as 1 / (1 + e^(-2u)): one exponential and one division for every element.
// Against 02: no tanhf, which takes another path for small |u| than for large.
//
//@ block   256 512
//@ tune    ITEMS 8 16
//@ grid    ceil_div(N * C, block * ITEMS)
//@ dtype   all=float32 | F=bfloat16
//@ inplace out=inp
//@ claims  deterministic batch_invariant no_atomics
#include "gelu.cuh"

template <bool packed> __device__ inline void each(F* out, const F* inp, int64_t count) {
    constexpr int size = Packet<F>::size, packets = ITEMS / size;
    int64_t first = (int64_t)blockIdx.x * block * ITEMS + threadIdx.x * size;
    Packet<F> x[packets];
#pragma unroll
    for (int k = 0; k < packets; k++) {
        int64_t i = first + k * block * size;
        x[k] = load_some<packed>(inp + i, count - i);
    }
#pragma unroll
    for (int k = 0; k < packets; k++) {
        int64_t i = first + k * block * size;
#pragma unroll
        for (int j = 0; j < size; j++) {
            x[k].at[j] = from_float<F>(by_exponential(to_float(x[k].at[j])));
        }
        store_some<packed>(out + i, x[k], count - i);
    }
}

extern "C" __global__ void gelu_forward(F* out, const F* inp, int N, int C) {
    if (is_aligned(out, inp)) each<true>(out, inp, (int64_t)N * C);
    else each<false>(out, inp, (int64_t)N * C);
}
