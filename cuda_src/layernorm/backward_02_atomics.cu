// A warp a row, and each element's part of dweight and dbias is added in memory by an atomic.
// Against 01: one launch, whole lines of memory; but N atomics meet at every channel, and the order
// of the sums is another in every run.
//
//@ block   256 128
//@ grid    ceil_div(N, block / 32)
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ claims  batch_invariant
//@ concedes denormals
#include "rows.cuh"

extern "C" __global__ void layernorm_backward(R* dinp, G* dweight, G* dbias, const F* dout,
                                              const R* inp, const P* weight, const float* mean,
                                              const float* rstd, int N, int C) {
    int n = blockIdx.x * (block / 32) + threadIdx.x / 32;
    if (n >= N) return;
    const F* dy = dout + (size_t)n * C;  // dout[n, :]
    const R* x = inp + (size_t)n * C;    // inp[n, :]
    R* dx = dinp + (size_t)n * C;        // dinp[n, :]
    float m = mean[n], r = rstd[n], g_mean, gx_mean;
    row_means(dy, x, weight, m, r, C, g_mean, gx_mean);
    for (int c = threadIdx.x % 32; c < C; c += 32) {
        float xhat = (to_float(x[c]) - m) * r, d = to_float(dy[c]);
        float part = row_part(d * to_float(weight[c]), xhat, r, g_mean, gx_mean);
        dx[c] = from_float<R>(to_float(dx[c]) + part);
        atomicAdd(&dweight[c], d * xhat);
        atomicAdd(&dbias[c], d);
    }
}
