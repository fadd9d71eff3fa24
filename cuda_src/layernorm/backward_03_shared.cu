// A block gathers dweight and dbias of its rows in shared memory, and adds them to memory once.
// Against 02: an atomic a channel and block instead of one a channel and row; those within a block
// stay on its multiprocessor.
//
//@ block   256 512
//@ tune    BLOCKS 4 2
//@ grid    min(multiprocessors * BLOCKS, N)
//@ shared  2 * C * 4
//@ needs   2 * C * 4 <= shared_limit
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ claims  batch_invariant
//@ concedes denormals
#include "rows.cuh"

extern "C" __global__ void layernorm_backward(R* dinp, G* dweight, G* dbias, const F* dout,
                                              const R* inp, const P* weight, const float* mean,
                                              const float* rstd, int N, int C) {
    DYNAMIC_SHARED(float, sums);  // dweight, then dbias
    for (int i = threadIdx.x; i < 2 * C; i += block) sums[i] = 0.0f;
    __syncthreads();
    size_t warps = (size_t)gridDim.x * (block / 32);
    for (size_t n = (size_t)blockIdx.x * (block / 32) + threadIdx.x / 32; n < N; n += warps) {
        const F* dy = dout + n * C;  // dout[n, :]
        const R* x = inp + n * C;    // inp[n, :]
        R* dx = dinp + n * C;        // dinp[n, :]
        float m = mean[n], r = rstd[n], g_mean, gx_mean;
        row_means(dy, x, weight, m, r, C, g_mean, gx_mean);
        for (int c = threadIdx.x % 32; c < C; c += 32) {
            float xhat = (to_float(x[c]) - m) * r, d = to_float(dy[c]);
            float part = row_part(d * to_float(weight[c]), xhat, r, g_mean, gx_mean);
            dx[c] = from_float<R>(to_float(dx[c]) + part);
            atomicAdd(&sums[c], d * xhat);
            atomicAdd(&sums[C + c], d);
        }
    }
    __syncthreads();
    for (int c = threadIdx.x; c < C; c += block) {
        atomicAdd(&dweight[c], sums[c]);
        atomicAdd(&dbias[c], sums[C + c]);
    }
}
