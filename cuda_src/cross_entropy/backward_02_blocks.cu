// A block a row. Against 01: no division, and what the row shares is looked up once.
//
//@ block  256 512 1024
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void cross_entropy_backward(F* dlogits, const float* dlosses,
                                                  const F* logits, const int* targets,
                                                  const float* lse, int V, int Vp) {
    const F* x = logits + (size_t)blockIdx.x * Vp;
    F* dx = dlogits + (size_t)blockIdx.x * Vp;
    float dloss = dlosses[blockIdx.x], all = lse[blockIdx.x];
    int target = targets[blockIdx.x];
    for (int v = threadIdx.x; v < Vp; v += block) {
        float p = v < V ? expf(to_float(x[v]) - all) : 0.0f;
        dx[v] = from_float<F>(v < V ? dloss * (v == target ? p - 1.0f : p) : 0.0f);
    }
}
