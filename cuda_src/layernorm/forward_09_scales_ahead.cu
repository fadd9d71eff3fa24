// Weight and bias are asked for along with the row, not after its sums, so that a warp waits for
// memory once. The rows go through the caches like anything else: marked as read once, they take
// longer. Where addresses or C forbid packets, a path of its own, whose registers do not count.
// Against 06: one wait a row less.
//
//@ block   64 128 256
//@ static  C
//@ needs   C <= 32 * block
//@ grid    ceil_div(N, block / 32 / (1 + (C > 1024) + 2 * (C > 2048) + 4 * (C > 4096)))
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ inplace out=inp
//@ claims  deterministic batch_invariant no_atomics
#include "row.cuh"

// The team's row, n of N.
template <bool packed>
__device__ inline void normalise(F* out, float* mean, float* rstd, const R* inp, const P* weight,
                                 const P* bias, int n, int N, float eps, float* room) {
    Words<R> x[PACKETS] = {};
    Words<P> w[PACKETS], b[PACKETS];
    if (n < N) take_row<false>(x, inp, packed);
    if (packed) {
        take_row<false>(w, weight, packed);
        take_row<false>(b, bias, packed);
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
layernorm_forward(F* out, float* mean, float* rstd, const R* inp, const P* weight, const P* bias,
                  int N, float eps) {
    __shared__ float room[64];
    int n = blockIdx.x * TEAMS + threadIdx.x / TEAM;
    size_t row = (size_t)n * C;
    if (TEAM == 32 && n >= N) return;  // without a barrier ahead, so that no load waits for this
    if (is_aligned(out, inp, weight, bias))
        normalise<true>(out + row, mean, rstd, inp + row, weight, bias, n, N, eps, room);
    else
        normalise<false>(out + row, mean, rstd, inp + row, weight, bias, n, N, eps, room);
}
