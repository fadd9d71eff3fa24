// A row moves in packets of 16 bytes, three a lane at C = 768 in bfloat16; weight and bias as well.
// Against 05: an eighth of the loads and stores; all of a row's are on their way before the first
// is used. Where addresses or C forbid packets, the same numbers go one by one.
//
//@ block   256 128 512
//@ static  C
//@ needs   C <= 32 * block
//@ grid    ceil_div(N, block / 32 / (1 + (C > 1024) + 2 * (C > 2048) + 4 * (C > 4096)))
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ inplace out=inp
//@ claims  deterministic batch_invariant no_atomics
#include "row.cuh"

template <bool packed>
__device__ inline void normalise(F* out, float* mean, float* rstd, const R* inp, const P* weight,
                                 const P* bias, int N, float eps, float* room) {
    int n = blockIdx.x * TEAMS + threadIdx.x / TEAM;
    size_t row = (size_t)n * C;
    Words<R> x[PACKETS] = {};
    if (n < N) take_row<packed>(x, inp + row);
    float m, r;
    statistics<packed>(x, eps, room, m, r);
    if (n >= N) return;
#pragma unroll
    for (int v = 0; v < PACKETS; v++) {
        int c = channel(v);
        Words<P> w = take<packed, false>(weight, c), b = take<packed, false>(bias, c);
        put<packed>(out + row, c, scaled(x[v], m, r, w, b));
    }
    if (threadIdx.x % TEAM == 0) {
        mean[n] = m;
        rstd[n] = r;
    }
}

extern "C" __global__ void layernorm_forward(F* out, float* mean, float* rstd, const R* inp,
                                             const P* weight, const P* bias, int N, float eps) {
    __shared__ float room[64];
    if (C % SIZE == 0 && is_aligned(out, inp, weight, bias))
        normalise<true>(out, mean, rstd, inp, weight, bias, N, eps, room);
    else normalise<false>(out, mean, rstd, inp, weight, bias, N, eps, room);
}
