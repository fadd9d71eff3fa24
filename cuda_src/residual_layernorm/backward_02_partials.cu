// Each block has a run of rows: first its warps do a row each, then each thread walks down the run
// for channels of its own, and the block's sums become a row of `part`. A second launch adds those
// rows up, in an order that does not change.
// Against 01: whole lines of memory, and every multiprocessor works on dweight and dbias.
//
//@ block   256 512
//@ tune    BLOCKS 4 2
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ scratch part F32["min(multiprocessors*BLOCKS,N) 2*C"]
//@ launch  residual_layernorm_backward grid=min(multiprocessors*BLOCKS,N) block=block
//@ launch  residual_layernorm_backward_columns grid=ceil_div(2*C,32) block=1024
//@ inplace dinp1=dres
//@ claims  deterministic batch_invariant no_atomics
#include "layernorm/columns.cuh"
#include "layernorm/rows.cuh"

extern "C" __global__ void residual_layernorm_backward(R* dinp1, F* dinp2, float* part,
                                                       const F* dout, const R* dres, const R* res,
                                                       const P* weight, const float* mean,
                                                       const float* rstd, int N, int C) {
    int64_t start = (int64_t)N * blockIdx.x / gridDim.x;
    int64_t end = (int64_t)N * (blockIdx.x + 1) / gridDim.x;
    for (int64_t n = start + threadIdx.x / 32; n < end; n += block / 32) {
        const F* dy = dout + n * C;  // dout[n, :]
        const R* x = res + n * C;    // res[n, :]
        float m = mean[n], r = rstd[n], g_mean, gx_mean;
        row_means(dy, x, weight, m, r, C, g_mean, gx_mean);
        for (int c = threadIdx.x % 32; c < C; c += 32) {
            float xhat = (to_float(x[c]) - m) * r;
            float g = to_float(dy[c]) * to_float(weight[c]);
            float dx = to_float(dres[n * C + c]) + row_part(g, xhat, r, g_mean, gx_mean);
            dinp1[n * C + c] = from_float<R>(dx);
            dinp2[n * C + c] = from_float<F>(dx);
        }
    }
    float* mine = part + (size_t)blockIdx.x * 2 * C;  // part[block, :]
    for (int c = threadIdx.x; c < C; c += block) {
        float dw = 0.0f, db = 0.0f;
        for (int64_t n = start; n < end; n++) {
            float d = to_float(dout[n * C + c]);
            dw += d * ((to_float(res[n * C + c]) - mean[n]) * rstd[n]);
            db += d;
        }
        mine[c] = dw;
        mine[C + c] = db;
    }
}

extern "C" __global__ void residual_layernorm_backward_columns(
    G* dweight, G* dbias, const float* part, int N, int C, int multiprocessors) {
    __shared__ float room[32][33];
    add_columns(dweight, dbias, part, min(multiprocessors * BLOCKS, N), C, room);
}
