// Weight and bias are asked for along with the rows, not after their sums, and the sum is stored as
// soon as it is known: a warp waits for memory once. The rows go through the caches like anything
// else: marked as read once, they take longer. Where addresses or C forbid packets, a path of its
// own, whose registers do not count here.
// Against 05: one wait a row less.
//
//@ block   64 128 256
//@ static  C
//@ needs   C <= 32 * block
//@ grid    ceil_div(N, block / 32 / (1 + (C > 1024) + 2 * (C > 2048) + 4 * (C > 4096)))
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ inplace res=inp1 out=inp2
//@ claims  deterministic batch_invariant no_atomics
#include "sum.cuh"

// The team's rows, n of N.
template <bool packed>
__device__ inline void normalise(R* res, F* out, float* mean, float* rstd, const R* inp1,
                                 const F* inp2, const P* weight, const P* bias, int n, int N,
                                 float eps, float* room) {
    Words<R> x[PACKETS] = {};
    Words<F> branch[PACKETS] = {};
    Words<P> w[PACKETS], b[PACKETS];
    if (n < N) {
        take_row<false>(x, inp1, packed);
        take_row<false>(branch, inp2, packed);
    }
    if (packed) {
        take_row<false>(w, weight, packed);
        take_row<false>(b, bias, packed);
    }
    if (n < N) {
#pragma unroll
        for (int v = 0; v < PACKETS; v++) {
            x[v] = summed(x[v], branch[v]);
            put(res, channel(v), x[v], packed);
        }
    }
    float m, r;
    statistics(x, eps, room, m, r);
    if (n >= N) return;
#pragma unroll
    for (int v = 0; v < PACKETS; v++) {
        int c = channel(v);
        if (!packed) w[v] = take<false>(weight, c, packed), b[v] = take<false>(bias, c, packed);
        put(out, c, scaled(x[v], m, r, w[v], b[v]), packed);
    }
    if (threadIdx.x % TEAM == 0) {
        mean[n] = m;
        rstd[n] = r;
    }
}

extern "C" __global__ void __launch_bounds__(block)
residual_layernorm_forward(R* res, F* out, float* mean, float* rstd, const R* inp1, const F* inp2,
                           const P* weight, const P* bias, int N, float eps) {
    __shared__ float room[64];
    int n = blockIdx.x * TEAMS + threadIdx.x / TEAM;
    size_t row = (size_t)n * C;
    if (TEAM == 32 && n >= N) return;  // without a barrier ahead, so that no load waits for this
    if (is_aligned(res, out, inp1, inp2, weight, bias))
        normalise<true>(res + row, out + row, mean, rstd, inp1 + row, inp2 + row, weight, bias, n,
                        N, eps, room);
    else
        normalise<false>(res + row, out + row, mean, rstd, inp1 + row, inp2 + row, weight, bias, n,
                         N, eps, room);
}
