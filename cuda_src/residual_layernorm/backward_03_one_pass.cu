// One pass: a team keeps the row it works on in registers, packets of 16 bytes, and each lane the
// sums of dweight and dbias for its channels, over all rows that come its way (gradients.cuh). At
// the end the block's teams are added up in shared memory.
// Against 02: dout and res are read once instead of three times; C is compiled in.
//
//@ block   128
//@ tune    BLOCKS 3 2
//@ static  C
//@ needs   C <= 24 * block
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ scratch part F32["min(multiprocessors*BLOCKS,N) 2*C"]
//@ launch  residual_layernorm_backward grid=min(multiprocessors*BLOCKS,N) block=block shared=(C+max(256,3*C/4))*8
//@ launch  residual_layernorm_backward_columns grid=ceil_div(2*C,32) block=1024
//@ inplace dinp1=dres dinp2=dout
//@ claims  deterministic batch_invariant no_atomics
#include "layernorm/gradients.cuh"

extern "C" __global__ void __launch_bounds__(block, BLOCKS)
residual_layernorm_backward(R* dinp1, F* dinp2, float* part, const F* dout, const R* dres,
                            const R* res, const P* weight, const float* mean, const float* rstd,
                            int N) {
    DYNAMIC_SHARED(float, sums);
    __shared__ float room[128];
    bool packed = is_aligned(dinp1, dinp2, dout, dres, res, weight);
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
            take_row(x, res + n * C, packed);
            take_row(old, dres + n * C, packed);
            m = mean[n];
            r = rstd[n];
        }
        gather(dy, x, w, m, r, dw, db, room + turn * 64, g_mean, gx_mean);
        turn ^= 1;
        if (n < N) {
#pragma unroll
            for (int v = 0; v < PACKETS; v++) {
                Words<R> dx = gradient(old[v], dy[v], x[v], w[v], m, r, g_mean, gx_mean, v);
                put(dinp1 + n * C, channel(v), dx, packed);
                put(dinp2 + n * C, channel(v), as_role<F>(dx), packed);
            }
        }
    }
    put_sums(dw, db, sums, part + (size_t)blockIdx.x * 2 * C);
}

extern "C" __global__ void residual_layernorm_backward_columns(
    G* dweight, G* dbias, const float* part, int N, int multiprocessors) {
    __shared__ float room[32][33];
    add_columns(dweight, dbias, part, min(multiprocessors * BLOCKS, N), C, room);
}
