// A grid that just fills the GPU walks over all rows: weight and bias are read once, into shared
// memory, and a row's packets are asked for while the row before is still worked on.
// Against 06: no time in which a warp has nothing on its way.
//
//@ block   256
//@ tune    BLOCKS 3 2
//@ static  C
//@ spills  64
//@ needs   C <= 32 * block
//@ grid    min(multiprocessors * BLOCKS, N)
//@ shared  2 * C * 4
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ inplace out=inp
//@ claims  deterministic batch_invariant no_atomics
#include "row.cuh"

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
    bool packed = is_aligned(out, inp);
    Words<R> x[PACKETS], next[PACKETS] = {};
    int64_t n = (int64_t)blockIdx.x * TEAMS + threadIdx.x / TEAM, step = (int64_t)gridDim.x * TEAMS;
    if (n < N) take_row(next, inp + n * C, packed);
    // As many turns for every team of the block, which may have to meet in team_sum.
    for (int64_t first = (int64_t)blockIdx.x * TEAMS; first < N; first += step, n += step) {
#pragma unroll
        for (int v = 0; v < PACKETS; v++) x[v] = next[v];
        if (n + step < N) take_row(next, inp + (n + step) * C, packed);
        float m, r;
        statistics(x, eps, room, m, r);
        if (n < N) {
#pragma unroll
            for (int v = 0; v < PACKETS; v++) {
                int c = channel(v);
                Words<P> w = take<false>(near, c, true), b = take<false>(near + C, c, true);
                put(out + n * C, c, scaled(x[v], m, r, w, b), packed);
            }
            if (threadIdx.x % TEAM == 0) {
                mean[n] = m;
                rstd[n] = r;
            }
        }
    }
}
