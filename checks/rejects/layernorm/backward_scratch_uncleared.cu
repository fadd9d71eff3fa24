// Rows add to scratch with atomics and columns add the scratch to the gradients; nobody clears the
// scratch.
//
//@ reject poison: adds to scratch that was never cleared
//@ launch layernorm_backward grid=ceil_div(N,64) block=64
//@ launch columns grid=ceil_div(C,64) block=64
//@ dtype  all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ scratch part F32["2*C"]
#include "common.cuh"

extern "C" __global__ void layernorm_backward(R* dinp, float* part, const F* dout, const R* inp,
                                              const P* weight, const float* mean,
                                              const float* rstd, int N, int C) {
    int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    const R* x = inp + (size_t)n * C;
    const F* dy = dout + (size_t)n * C;
    float dot = 0.0f, sum = 0.0f;
    for (int c = 0; c < C; c++) {
        float g = to_float(dy[c]) * to_float(weight[c]);
        sum += g;
        dot += g * (to_float(x[c]) - mean[n]) * rstd[n];
    }
    for (int c = 0; c < C; c++) {
        float hat = (to_float(x[c]) - mean[n]) * rstd[n];
        float g = to_float(dy[c]) * to_float(weight[c]);
        float d = (g - sum / C - hat * dot / C) * rstd[n];
        R* place = dinp + (size_t)n * C + c;
        *place = from_float<R>(to_float(*place) + d);
        atomicAdd(&part[c], to_float(dy[c]) * hat);
        atomicAdd(&part[C + c], to_float(dy[c]));
    }
}

extern "C" __global__ void columns(G* dweight, G* dbias, const float* part, int C) {
    int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    dweight[c] += part[c];
    dbias[c] += part[C + c];
}
