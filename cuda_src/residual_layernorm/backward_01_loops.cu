// A thread a row for the gradients of both inputs, and after it a thread a channel for dweight and
// dbias: layernorm's backward of the row, plus dres, to both.
//
//@ block   256 64
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ launch  residual_layernorm_backward grid=ceil_div(N,block) block=block
//@ launch  residual_layernorm_backward_columns grid=ceil_div(C,block) block=block
//@ inplace dinp1=dres
//@ claims  deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void residual_layernorm_backward(R* dinp1, F* dinp2, const F* dout,
                                                       const R* dres, const R* res,
                                                       const P* weight, const float* mean,
                                                       const float* rstd, int N, int C) {
    int n = blockIdx.x * block + threadIdx.x;
    if (n >= N) return;
    size_t row = (size_t)n * C;
    const F* dy = dout + row;  // dout[n, :]
    const R* x = res + row;    // res[n, :]
    float m = mean[n], r = rstd[n];

    float g_sum = 0.0f, gx_sum = 0.0f;
    for (int c = 0; c < C; c++) {
        float xhat = (to_float(x[c]) - m) * r;
        float g = to_float(dy[c]) * to_float(weight[c]);
        g_sum += g;
        gx_sum += g * xhat;
    }
    float g_mean = g_sum / C, gx_mean = gx_sum / C;

    for (int c = 0; c < C; c++) {
        float xhat = (to_float(x[c]) - m) * r;
        float g = to_float(dy[c]) * to_float(weight[c]);
        float dx = to_float(dres[row + c]) + (g - g_mean - xhat * gx_mean) * r;
        dinp1[row + c] = from_float<R>(dx);
        dinp2[row + c] = from_float<F>(dx);
    }
}

extern "C" __global__ void residual_layernorm_backward_columns(
    G* dweight, G* dbias, const F* dout, const R* res, const float* mean, const float* rstd, int N,
    int C) {
    int c = blockIdx.x * block + threadIdx.x;
    if (c >= C) return;
    float dw = 0.0f, db = 0.0f;
    for (int n = 0; n < N; n++) {
        float d = to_float(dout[(size_t)n * C + c]);
        dw += d * ((to_float(res[(size_t)n * C + c]) - mean[n]) * rstd[n]);
        db += d;
    }
    dweight[c] += dw;
    dbias[c] += db;
}
