// 16 bytes at a time, AHEAD packets of a thread on their way before the first is used; the target's
// element is set right afterwards by the thread that wrote its packet.
// Against 02: fewer loads and stores, more bytes in flight, no comparison at every element.
//
//@ block  512 256
//@ tune   AHEAD 4 2
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "softmax/row.cuh"

__device__ inline void scale(Packet<F>& x, float dloss, float lse) {
#pragma unroll
    for (int j = 0; j < Packet<F>::size; j++) {
        x.at[j] = from_float<F>(dloss * exponential<F>(to_float(x.at[j]) - lse));
    }
}

template <bool packed>
__device__ inline void slope(F* dx, const F* x, int target, float dloss, float lse, int V, int Vp) {
    constexpr int size = Packet<F>::size;
    constexpr int STEP = block * size;  // columns that a block takes at a time
    int c = threadIdx.x * size;
    for (; packed && c + (AHEAD - 1) * STEP + size <= V; c += AHEAD * STEP) {
        Packet<F> some[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) some[k] = load_packet_once(x + c + k * STEP);
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            scale(some[k], dloss, lse);
            store_packet_once(dx + c + k * STEP, some[k]);
        }
    }
    for (; c < Vp; c += STEP) {
        Packet<F> some = load_columns<packed>(x, c, V);
        scale(some, dloss, lse);
#pragma unroll
        for (int j = 0; j < size; j++)
            if (c + j >= V) some.at[j] = from_float<F>(0.0f);
        store_columns<packed>(dx, c, Vp, some);
    }
    if (target / size % block == threadIdx.x) {
        dx[target] = from_float<F>(dloss * (exponential<F>(to_float(x[target]) - lse) - 1.0f));
    }
}

extern "C" __global__ void cross_entropy_backward(F* dlogits, const float* dlosses,
                                                  const F* logits, const int* targets,
                                                  const float* lse, int V, int Vp) {
    const F* x = logits + (size_t)blockIdx.x * Vp;
    F* dx = dlogits + (size_t)blockIdx.x * Vp;
    float dloss = dlosses[blockIdx.x], all = lse[blockIdx.x];
    int target = targets[blockIdx.x];
    if (rows_in_packets(Vp, logits, dlogits)) slope<true>(dx, x, target, dloss, all, V, Vp);
    else slope<false>(dx, x, target, dloss, all, V, Vp);
}
