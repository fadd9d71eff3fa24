// The rows to come are copied to shared memory in the background (staged.cuh), several ahead; a
// row's packets are read there twice, so that between its means and its gradient they take no
// registers, and more warps fit.
// Against 03: every warp always has bytes on their way.
//
//@ block   128
//@ tune    BLOCKS 3 2
//@ tune    STAGES 4 3
//@ static  C
//@ spills  12
//@ needs   C <= 24 * block
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ scratch part F32["min(multiprocessors*BLOCKS,N) 2*C"]
//@ launch  residual_layernorm_backward grid=min(multiprocessors*BLOCKS,N) block=block shared=STAGES*144*block
//@ launch  residual_layernorm_backward_columns grid=ceil_div(2*C,32) block=1024
//@ inplace dinp1=dres dinp2=dout
//@ claims  deterministic batch_invariant no_atomics
#include "layernorm/gradients.cuh"
#include "layernorm/staged.cuh"

extern "C" __global__ void __launch_bounds__(block, BLOCKS)
residual_layernorm_backward(R* dinp1, F* dinp2, float* part, const F* dout, const R* dres,
                            const R* res, const P* weight, const float* mean, const float* rstd,
                            int N) {
    DYNAMIC_SHARED(unsigned char, stages);
    __shared__ float room[128];
    bool packed = is_aligned(dinp1, dinp2, dout, dres, res, weight);
    float dw[HELD] = {}, db[HELD] = {};
    int64_t n = (int64_t)blockIdx.x * TEAMS + threadIdx.x / TEAM, step = (int64_t)gridDim.x * TEAMS;
    int turn = 0, stage = 0;
    float next_m = n < N ? mean[n] : 0.0f, next_r = n < N ? rstd[n] : 0.0f;
    for (int s = 0; s < DEPTH; s++) ask(stages, s, dout, res, dres, n + s * step, N, packed);
    // As many turns for every team of the block, which may have to meet in team_sums.
    for (int64_t first = (int64_t)blockIdx.x * TEAMS; first < N; first += step, n += step) {
        Words<P> w[PACKETS];
        Words<F> dy[PACKETS];
        Words<R> x[PACKETS], old[PACKETS];
        float m = next_m, r = next_r, g_mean, gx_mean;
        if (n + step < N) {
            next_m = mean[n + step];
            next_r = rstd[n + step];
        }
        take_row<false>(w, weight, packed);  // near, in the first-level cache
        copy_async_wait<DEPTH - 1>();
        take_stage(dy, stages, stage, 0);
        take_stage(x, stages, stage, 1);
        gather(dy, x, w, m, r, dw, db, room + turn * 64, g_mean, gx_mean);
        turn ^= 1;
        __syncwarp();  // the compiler must not keep what it has read: read it again
        take_row<false>(w, weight, packed);
        take_stage(dy, stages, stage, 0);
        take_stage(x, stages, stage, 1);
        take_stage(old, stages, stage, 2);
        if (n < N) {
#pragma unroll
            for (int v = 0; v < PACKETS; v++) {
                Words<R> dx = gradient(old[v], dy[v], x[v], w[v], m, r, g_mean, gx_mean, v);
                put(dinp1 + n * C, channel(v), dx, packed);
                put(dinp2 + n * C, channel(v), as_role<F>(dx), packed);
            }
        }
        ask(stages, stage, dout, res, dres, n + DEPTH * step, N, packed);
        stage = stage + 1 < DEPTH ? stage + 1 : 0;
    }
    copy_async_wait<0>();
    __syncthreads();  // the slots become the room for the sums
    put_sums(dw, db, reinterpret_cast<float*>(stages), part + (size_t)blockIdx.x * 2 * C);
}

extern "C" __global__ void residual_layernorm_backward_columns(
    G* dweight, G* dbias, const float* part, int N, int multiprocessors) {
    __shared__ float room[32][33];
    add_columns(dweight, dbias, part, min(multiprocessors * BLOCKS, N), C, room);
}
