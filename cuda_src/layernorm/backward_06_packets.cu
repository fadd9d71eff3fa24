// Rows move in packets of 16 bytes: dout, inp and what stands in dinp are all asked for before the
// first of them is used.
// Against 05: an eighth of the loads and stores. Where addresses or C forbid packets, the same
// numbers go one by one.
//
//@ block   128
//@ tune    BLOCKS 3 2
//@ static  C
//@ needs   C <= 24 * block
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ scratch part F32["min(multiprocessors*BLOCKS,N) 2*C"]
//@ launch  layernorm_backward grid=min(multiprocessors*BLOCKS,N) block=block shared=(C+max(256,3*C/4))*8
//@ launch  layernorm_backward_columns grid=ceil_div(2*C,32) block=1024
//@ claims  deterministic batch_invariant no_atomics
#include "gradients.cuh"

extern "C" __global__ void __launch_bounds__(block, BLOCKS)
layernorm_backward(R* dinp, float* part, const F* dout, const R* inp, const P* weight,
                   const float* mean, const float* rstd, int N) {
    DYNAMIC_SHARED(float, sums);
    __shared__ float room[128];
    bool packed = is_aligned(dinp, dout, inp, weight);
    Words<P> w[PACKETS];
    take_row(w, weight, packed);
    float dw[HELD] = {}, db[HELD] = {};
    int64_t n = (int64_t)blockIdx.x * TEAMS + threadIdx.x / TEAM, step = (int64_t)gridDim.x * TEAMS;
    int turn = 0;
    // As many turns for every team of the block, which may have to meet in team_sums.
    for (int64_t first = (int64_t)blockIdx.x * TEAMS; first < N; first += step, n += step) {
        Words<F> dy[PACKETS] = {};
        Words<R> x[PACKETS] = {}, old[PACKETS] = {};
        float m = 0.0f, r = 0.0f, g_mean, gx_mean;
        if (n < N) {
            take_row(dy, dout + n * C, packed);
            take_row(x, inp + n * C, packed);
            take_row(old, dinp + n * C, packed);
            m = mean[n];
            r = rstd[n];
        }
        gather(dy, x, w, m, r, dw, db, room + turn * 64, g_mean, gx_mean);
        turn ^= 1;
        if (n < N) {
#pragma unroll
            for (int v = 0; v < PACKETS; v++) {
                Words<R> dx = gradient(old[v], dy[v], x[v], w[v], m, r, g_mean, gx_mean, v);
                put(dinp + n * C, channel(v), dx, packed);
            }
        }
    }
    put_sums(dw, db, sums, part + (size_t)blockIdx.x * 2 * C);
}

extern "C" __global__ void layernorm_backward_columns(G* dweight, G* dbias, const float* part,
                                                      int N, int multiprocessors) {
    __shared__ float room[32][33];
    add_columns(dweight, dbias, part, min(multiprocessors * BLOCKS, N), C, room);
}
