// Maximum and sum in one pass: a thread's sum is rescaled whenever it meets a larger number.
// Against 02: the row is read twice, not three times.
//
//@ block  256 512 1024
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "softmax/row.cuh"

extern "C" __global__ void classifier_forward(float* losses, F* logits, const int* targets,
                                              const float* dscale, int V, int Vp) {
    F* row = logits + (size_t)blockIdx.x * Vp;
    int target = targets[blockIdx.x];
    float at_target = to_float(row[target]);
    Online all;
    for (int v = threadIdx.x; v < V; v += block) take(all, to_float(row[v]));
    all = block_joined(all);
    if (threadIdx.x == 0) losses[blockIdx.x] = (all.largest - at_target) + logf(all.sum);
    float share = *dscale / all.sum;
    for (int v = threadIdx.x; v < Vp; v += block) {
        float e = v < V ? expf(to_float(row[v]) - all.largest) : 0.0f;
        float d = v == target ? *dscale * (e / all.sum - 1.0f) : e * share;
        row[v] = from_float<F>(v < V ? d : 0.0f);
    }
}
