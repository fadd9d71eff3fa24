// A thread a row: the C loops, each row walked by one thread. Neighbouring threads are a whole row
// apart, so that every look at memory is one of its own.
//
//@ block  128 64
//@ grid   ceil_div(N, block)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void classifier_forward(float* losses, F* logits, const int* targets,
                                              const float* dscale, int N, int V, int Vp) {
    int n = blockIdx.x * block + threadIdx.x;
    if (n >= N) return;
    F* row = logits + (size_t)n * Vp;
    int target = targets[n];
    float largest = -INFINITY, sum = 0.0f;
    for (int v = 0; v < V; v++) largest = fmaxf(largest, to_float(row[v]));  // NaN: the sum has it
    for (int v = 0; v < V; v++) sum += expf(to_float(row[v]) - largest);
    losses[n] = (largest - to_float(row[target])) + logf(sum);
    for (int v = 0; v < V; v++) {
        float p = expf(to_float(row[v]) - largest) / sum;
        row[v] = from_float<F>(*dscale * (v == target ? p - 1.0f : p));
    }
    for (int v = V; v < Vp; v++) row[v] = from_float<F>(0.0f);
}
