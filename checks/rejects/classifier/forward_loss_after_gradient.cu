// A block a row. One thread reads the target's score for the loss while others write the gradient
// over it.
//
//@ reject sanitizers: the target's score is read while it is overwritten
//@ block  64
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic
#include "common.cuh"

extern "C" __global__ void classifier_forward(float* losses, F* logits, const int* targets,
                                              const float* dscale, int N, int V, int Vp) {
    __shared__ float room[32];
    F* x = logits + (size_t)blockIdx.x * Vp;
    int target = targets[blockIdx.x];
    float top = -INFINITY, sum = 0.0f;
    for (int v = threadIdx.x; v < V; v += blockDim.x) top = max_nan(top, to_float(x[v]));
    top = block_max(top, room);
    for (int v = threadIdx.x; v < V; v += blockDim.x) sum += expf(to_float(x[v]) - top);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) losses[blockIdx.x] = logf(sum) + top - to_float(x[target]);
    for (int v = threadIdx.x; v < Vp; v += blockDim.x) {
        float p = v < V ? expf(to_float(x[v]) - top) / sum : 0.0f;
        x[v] = from_float<F>(*dscale * (p - (v == target)));
    }
}
