// 16 bytes at a time, AHEAD packets of a thread on their way before the first is used; the target's
// element is set right afterwards by the thread that wrote its packet.
// Against 02: fewer loads and stores, more bytes in flight, no comparison at every element.
//
//@ block  512 256
//@ tune   AHEAD 2 4
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "softmax/row.cuh"

template <bool packed>
__device__ inline void slope(F* dx, const F* x, int target, float dloss, float lse, int V, int Vp) {
    constexpr int size = Packet<F>::size;
    for (int start = threadIdx.x * size; start < Vp; start += AHEAD * block * size) {
        Packet<F> some[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            some[k] = load_columns<packed>(x, start + k * block * size, V);
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            int c = start + k * block * size;
#pragma unroll
            for (int j = 0; j < size; j++) {
                float d = dloss * exponential<F>(to_float(some[k].at[j]) - lse);
                some[k].at[j] = from_float<F>(c + j < V ? d : 0.0f);
            }
            store_columns<packed>(dx, c, Vp, some[k]);
        }
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
