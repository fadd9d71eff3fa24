// A grid that just fills the GPU walks over all rows: weight and bias are read once, into shared
// memory, and a row's packets are asked for while the row before is still worked on.
// Against 06: no time in which a warp has nothing on its way.
//
//@ block   256 128
//@ tune    BLOCKS 3 4 6
//@ static  C
//@ needs   C <= 32 * block and block * BLOCKS <= 1024
//@ grid    min(multiprocessors * BLOCKS, N)
//@ shared  2 * C * 4
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ inplace out=inp
//@ claims  deterministic batch_invariant no_atomics
#include "row.cuh"

// Without packets a row is read when its turn comes: what is on its way would fill the registers.
template <bool packed>
__device__ inline void normalise(F* out, float* mean, float* rstd, const R* inp, const P* weight,
                                 const P* bias, int N, float eps, float* room) {
    Words<R> x[PACKETS] = {}, next[PACKETS] = {};
    int64_t n = (int64_t)blockIdx.x * TEAMS + threadIdx.x / TEAM, step = (int64_t)gridDim.x * TEAMS;
    if (packed && n < N) take_row<packed>(next, inp + n * C);
    // As many turns for every team of the block, which may have to meet in team_sum.
    for (int64_t first = (int64_t)blockIdx.x * TEAMS; first < N; first += step, n += step) {
        float m, r;
        if constexpr (packed) {
#pragma unroll
            for (int v = 0; v < PACKETS; v++) x[v] = next[v];
            if (n + step < N) take_row<packed>(next, inp + (n + step) * C);
        } else if (n < N) {
            take_row<packed>(x, inp + n * C);
        }
        statistics<packed>(x, eps, room, m, r);
        if (n < N) {
#pragma unroll
            for (int v = 0; v < PACKETS; v++) {
                int c = channel(v);
                Words<P> w = take<packed, false>(weight, c), b = take<packed, false>(bias, c);
                put<packed>(out + n * C, c, scaled(x[v], m, r, w, b));
            }
            if (threadIdx.x % TEAM == 0) {
                mean[n] = m;
                rstd[n] = r;
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(block, BLOCKS)
layernorm_forward(F* out, float* mean, float* rstd, const R* inp, const P* weight, const P* bias,
                  int N, float eps) {
    DYNAMIC_SHARED(P, near);  // weight, then bias
    __shared__ float room[64];
    for (int c = threadIdx.x; c < C; c += block) {
        near[c] = weight[c];
        near[C + c] = bias[c];
    }
    __syncthreads();
    if (C % SIZE == 0 && is_aligned(out, inp))
        normalise<true>(out, mean, rstd, inp, near, near + C, N, eps, room);
    else normalise<false>(out, mean, rstd, inp, near, near + C, N, eps, room);
}
