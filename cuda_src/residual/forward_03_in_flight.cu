// All of a thread's packets are asked for before the first is used, so that more bytes are on their
// way at a time; a thread takes ITEMS elements.
// Against 02: several packets a thread instead of one or two.
//
//@ block   256 512
//@ tune    ITEMS 16 32
//@ grid    ceil_div(N * C, block * ITEMS)
//@ dtype   all=float32 | F=bfloat16 R=bfloat16
//@ inplace out=inp1
//@ claims  deterministic batch_invariant no_atomics
#include "elements.cuh"

template <bool packed>
__device__ inline void add(R* out, const R* inp1, const F* inp2, int64_t count) {
    constexpr int size = Packet<R>::size, packets = ITEMS / size;
    static_assert(size == Packet<F>::size, "both inputs in packets of one length");
    int64_t first = (int64_t)blockIdx.x * block * ITEMS + threadIdx.x * size;
    Packet<R> a[packets];
    Packet<F> b[packets];
#pragma unroll
    for (int k = 0; k < packets; k++) {
        int64_t i = first + k * block * size;
        a[k] = load_some<packed>(inp1 + i, count - i);
        b[k] = load_some<packed>(inp2 + i, count - i);
    }
#pragma unroll
    for (int k = 0; k < packets; k++) {
        int64_t i = first + k * block * size;
#pragma unroll
        for (int j = 0; j < size; j++) {
            a[k].at[j] = from_float<R>(to_float(a[k].at[j]) + to_float(b[k].at[j]));
        }
        store_some<packed>(out + i, a[k], count - i);
    }
}

extern "C" __global__ void residual_forward(R* out, const R* inp1, const F* inp2, int N, int C) {
    if (is_aligned(out, inp1, inp2)) add<true>(out, inp1, inp2, (int64_t)N * C);
    else add<false>(out, inp1, inp2, (int64_t)N * C);
}
