// A thread a row for dinp, and after it a thread a channel for dweight and dbias. With
// xhat = (inp - mean) * rstd and g = dout * weight, a row's
//   dinp = rstd * (g - mean over c of g - xhat * mean over c of (g * xhat)).
//
//@ block   256 64
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ launch  layernorm_backward grid=ceil_div(N,block) block=block
//@ launch  layernorm_backward_columns grid=ceil_div(C,block) block=block
//@ claims  deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void layernorm_backward(R* dinp, const F* dout, const R* inp,
                                              const P* weight, const float* mean,
                                              const float* rstd, int N, int C) {
    int n = blockIdx.x * block + threadIdx.x;
    if (n >= N) return;
    const F* dy = dout + (size_t)n * C;  // dout[n, :]
    const R* x = inp + (size_t)n * C;    // inp[n, :]
    R* dx = dinp + (size_t)n * C;        // dinp[n, :], where the residual's gradient stands
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
        dx[c] = from_float<R>(to_float(dx[c]) + (g - g_mean - xhat * gx_mean) * r);
    }
}

extern "C" __global__ void layernorm_backward_columns(G* dweight, G* dbias, const F* dout,
                                                      const R* inp, const float* mean,
                                                      const float* rstd, int N, int C) {
    int c = blockIdx.x * block + threadIdx.x;
    if (c >= C) return;
    float dw = 0.0f, db = 0.0f;
    for (int n = 0; n < N; n++) {
        float d = to_float(dout[(size_t)n * C + c]);
        dw += d * ((to_float(inp[(size_t)n * C + c]) - mean[n]) * rstd[n]);
        db += d;
    }
    dweight[c] += dw;
    dbias[c] += db;
}
