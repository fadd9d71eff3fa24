// The rows to come are copied to shared memory in the background (staged.cuh), several ahead; a
// row's packets are read there twice, so that between its means and its gradient they take no
// registers, and more warps fit. Where packets are forbidden a row is read when its turn comes.
// Against 06: every warp always has bytes on their way.
//
//@ block   128 256
//@ tune    BLOCKS 3 2 4
//@ tune    STAGES 4 3 2
//@ static  C
//@ needs   C <= 24 * block or block == 256 and C <= 8192
//@ needs   block * BLOCKS <= 512
//@ needs   STAGES * 48 * block * ceil_div(C, 256 * (1 + (C > 768) + 2 * (C > 1536) + 4 * (C > 3072))) <= 232448
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ scratch part F32["min(multiprocessors*BLOCKS,N) 2*C"]
//@ launch  layernorm_backward grid=min(multiprocessors*BLOCKS,N) block=block shared=STAGES*48*block*ceil_div(C,256*(1+(C>768)+2*(C>1536)+4*(C>3072)))
//@ launch  layernorm_backward_columns grid=ceil_div(2*C,32) block=1024
//@ claims  deterministic batch_invariant no_atomics
#include "gradients.cuh"
#include "staged.cuh"

template <bool packed>
__device__ inline void walk(R* dinp, float* part, const F* dout, const R* inp, const P* weight,
                            const float* mean, const float* rstd, int N, unsigned char* stages,
                            float* room) {
    float dw[HELD] = {}, db[HELD] = {};
    int64_t step = (int64_t)gridDim.x * TEAMS, n = (int64_t)blockIdx.x * TEAMS + threadIdx.x / TEAM;
    int turn = 0, stage = 0;
    float next_m = n < N ? mean[n] : 0.0f, next_r = n < N ? rstd[n] : 0.0f;
    if constexpr (packed) {
        for (int s = 0; s < DEPTH; s++) ask(stages, s, dout, inp, dinp, n + s * step, N);
    }
    // As many turns for every team of the block, which may have to meet in team_sums.
    for (int64_t first = (int64_t)blockIdx.x * TEAMS; first < N; first += step, n += step) {
        Words<P> w[PACKETS];
        Words<F> dy[PACKETS] = {};
        Words<R> x[PACKETS] = {}, old[PACKETS] = {};
        take_row<packed, false>(w, weight);  // near, in the first-level cache
        float m = next_m, r = next_r, g_mean, gx_mean;
        if (n + step < N) {
            next_m = mean[n + step];
            next_r = rstd[n + step];
        }
        if constexpr (packed) {
            copy_async_wait<DEPTH - 1>();
            take_stage(dy, stages, stage, 0);
            take_stage(x, stages, stage, 1);
        } else if (n < N) {
            take_row<packed>(dy, dout + n * C);
            take_row<packed>(x, inp + n * C);
        }
        gather<packed>(dy, x, w, m, r, dw, db, room + turn * 64, g_mean, gx_mean);
        turn ^= 1;
        __syncwarp();  // the compiler must not keep what it has read: read it again
        take_row<packed, false>(w, weight);
        if constexpr (packed) {
            take_stage(dy, stages, stage, 0);
            take_stage(x, stages, stage, 1);
            take_stage(old, stages, stage, 2);
        } else if (n < N) {
            take_row<packed>(dy, dout + n * C);
            take_row<packed>(x, inp + n * C);
            take_row<packed>(old, dinp + n * C);
        }
        if (n < N) {
#pragma unroll
            for (int v = 0; v < PACKETS; v++) {
                put<packed>(dinp + n * C, channel(v), gradient<packed>(
                    old[v], dy[v], x[v], w[v], m, r, g_mean, gx_mean, v));
            }
        }
        if constexpr (packed) {
            ask(stages, stage, dout, inp, dinp, n + DEPTH * step, N);
            stage = stage + 1 < DEPTH ? stage + 1 : 0;
        }
    }
    copy_async_wait<0>();
    __syncthreads();  // the slots become the room for the sums
    put_sums(dw, db, reinterpret_cast<float*>(stages), part + (size_t)blockIdx.x * 2 * C);
}

extern "C" __global__ void __launch_bounds__(block, BLOCKS)
layernorm_backward(R* dinp, float* part, const F* dout, const R* inp, const P* weight,
                   const float* mean, const float* rstd, int N) {
    DYNAMIC_SHARED(unsigned char, stages);
    __shared__ float room[128];
    if (C % SIZE == 0 && is_aligned(dinp, dout, inp, weight))
        walk<true>(dinp, part, dout, inp, weight, mean, rstd, N, stages, room);
    else walk<false>(dinp, part, dout, inp, weight, mean, rstd, N, stages, room);
}

extern "C" __global__ void layernorm_backward_columns(G* dweight, G* dbias, const float* part,
                                                      int N, int multiprocessors) {
    __shared__ float room[32][33];
    add_columns(dweight, dbias, part, min(multiprocessors * BLOCKS, N), C, room);
}
