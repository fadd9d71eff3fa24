// A thread a row; dinp is written where it should be added to.
//
//@ reject accumulate: = for += in dinp
//@ block  64
//@ grid   ceil_div(N, block)
//@ dtype  all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
#include "common.cuh"

extern "C" __global__ void layernorm_backward(R* dinp, G* dweight, G* dbias, const F* dout,
                                              const R* inp, const P* weight, const float* mean,
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
        *place = from_float<R>(d);
        atomicAdd(&dweight[c], to_float(dy[c]) * hat);
        atomicAdd(&dbias[c], to_float(dy[c]));
    }
}
