// A thread a row, with targets shifted by one.
//
//@ reject gate: the loss of the next row's target
//@ block  32
//@ grid   ceil_div(N, block)
//@ dtype  all=float32 | F=bfloat16
#include "common.cuh"

extern "C" __global__ void cross_entropy_forward(float* losses, float* lse, const F* logits,
                                                 const int* targets, int N, int V, int Vp) {
    int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    const F* x = logits + (size_t)n * Vp;
    float top = -INFINITY, sum = 0.0f;
    for (int v = 0; v < V; v++) top = max_nan(top, to_float(x[v]));
    for (int v = 0; v < V; v++) sum += expf(to_float(x[v]) - top);
    lse[n] = top + logf(sum);
    losses[n] = lse[n] - to_float(x[targets[(n + 1) % N]]);
}
