// A thread an element: each finds its row by a division and looks up what the row shares.
//
//@ block  256 128
//@ grid   ceil_div(N * Vp, block)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void cross_entropy_backward(F* dlogits, const float* dlosses,
                                                  const F* logits, const int* targets,
                                                  const float* lse, int N, int V, int Vp) {
    int64_t i = (int64_t)blockIdx.x * block + threadIdx.x;
    if (i >= (int64_t)N * Vp) return;
    int64_t n = i / Vp;
    int v = i - n * Vp;
    float p = v < V ? expf(to_float(logits[i]) - lse[n]) : 0.0f;
    float d = dlosses[n] * (v == targets[n] ? p - 1.0f : p);
    dlogits[i] = from_float<F>(v < V ? d : 0.0f);
}
