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

extern "C" __global__ void layernorm_forward(F* out, float* mean, float* rstd, const R* inp,
                                             const P* weight, const P* bias, int N, float eps) {
    __shared__ float room[64];
    bool packed = is_aligned(out, inp, weight, bias);
    int n = blockIdx.x * TEAMS + threadIdx.x / TEAM;
    size_t row = (size_t)n * C;
    Words<R> x[PACKETS] = {};
    if (n < N) take_row(x, inp + row, packed);
    float m, r;
    statistics(x, eps, room, m, r);
    if (n >= N) return;
#pragma unroll
    for (int v = 0; v < PACKETS; v++) {
        int c = channel(v);
        Words<P> w = take<false>(weight, c, packed), b = take<false>(bias, c, packed);
        put(out + row, c, scaled(x[v], m, r, w, b), packed);
    }
    if (threadIdx.x % TEAM == 0) {
        mean[n] = m;
        rstd[n] = r;
    }
}
