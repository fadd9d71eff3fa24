// The sum stays in registers while it is stored, and from there come statistics and out (row.cuh):
// with C compiled in, every packet of a lane has registers of its own.
// Against 04: the sum is never read, and all of a row's packets are asked for at once.
//
//@ block   256 128 512
//@ static  C
//@ needs   C <= 32 * block
//@ grid    ceil_div(N, block / 32 / (1 + (C > 1024) + 2 * (C > 2048) + 4 * (C > 4096)))
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ inplace res=inp1 out=inp2
//@ claims  deterministic batch_invariant no_atomics
#include "sum.cuh"

extern "C" __global__ void residual_layernorm_forward(R* res, F* out, float* mean, float* rstd,
                                                      const R* inp1, const F* inp2,
                                                      const P* weight, const P* bias, int N,
                                                      float eps) {
    __shared__ float room[64];
    bool packed = is_aligned(res, out, inp1, inp2, weight, bias);
    int n = blockIdx.x * TEAMS + threadIdx.x / TEAM;
    size_t row = (size_t)n * C;
    Words<R> x[PACKETS] = {};
    Words<F> branch[PACKETS] = {};
    if (n < N) {
        take_row(x, inp1 + row, packed);
        take_row(branch, inp2 + row, packed);
#pragma unroll
        for (int v = 0; v < PACKETS; v++) {
            x[v] = summed(x[v], branch[v]);
            put(res + row, channel(v), x[v], packed);
        }
    }
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
