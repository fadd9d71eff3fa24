// A warp a row; the padding columns take part in the softmax.
//
//@ reject gate: columns from V on are counted
//@ block  32
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic
#include "common.cuh"

extern "C" __global__ void classifier_forward(float* losses, F* logits, const int* targets,
                                              const float* dscale, int N, int Vp) {
    F* x = logits + (size_t)blockIdx.x * Vp;
    int target = targets[blockIdx.x];
    float top = -INFINITY, sum = 0.0f;
    for (int v = threadIdx.x; v < Vp; v += 32) top = max_nan(top, to_float(x[v]));
    top = warp_max(top);
    for (int v = threadIdx.x; v < Vp; v += 32) sum += expf(to_float(x[v]) - top);
    sum = warp_sum(sum);
    if (threadIdx.x == 0) losses[blockIdx.x] = logf(sum) + top - to_float(x[target]);
    __syncwarp();
    for (int v = threadIdx.x; v < Vp; v += 32) {
        float p = expf(to_float(x[v]) - top) / sum;
        x[v] = from_float<F>(*dscale * (p - (v == target)));
    }
}
