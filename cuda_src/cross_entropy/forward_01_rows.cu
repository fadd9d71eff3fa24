// A thread a row: the C loops, each row walked by one thread.
//
//@ block  128 64
//@ grid   ceil_div(N, block)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void cross_entropy_forward(float* losses, float* lse, const F* logits,
                                                 const int* targets, int N, int V, int Vp) {
    int n = blockIdx.x * block + threadIdx.x;
    if (n >= N) return;
    const F* row = logits + (size_t)n * Vp;
    float largest = -INFINITY, sum = 0.0f;
    for (int v = 0; v < V; v++) largest = fmaxf(largest, to_float(row[v]));  // NaN: the sum has it
    for (int v = 0; v < V; v++) sum += expf(to_float(row[v]) - largest);
    lse[n] = largest + logf(sum);
    losses[n] = (largest - to_float(row[targets[n]])) + logf(sum);
}
