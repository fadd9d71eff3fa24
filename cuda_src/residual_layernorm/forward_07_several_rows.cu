// A warp has ROWS rows at once: all packets of both inputs are asked for before the first is used,
// the steps of their sums go side by side, and weight and bias are read once for all
// (layernorm/several.cuh). What is stored leaves the caches first (HINT, streams.cuh).
// Against 05: ROWS times the bytes on their way a warp; nothing is stored before the row is known,
// so that a warp reads for a while, then writes for a while.
//
//@ block   128 64
//@ tune    ROWS 1 2
//@ tune    HINT 2
//@ static  C
//@ needs   C <= 32 * block
//@ grid    ceil_div(N, block / 32 / (1 + (C > 1024) + 2 * (C > 2048) + 4 * (C > 4096)) * ROWS)
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ inplace res=inp1 out=inp2
//@ claims  deterministic batch_invariant no_atomics
#include "sum.cuh"
#include "layernorm/several.cuh"

extern "C" __global__ void __launch_bounds__(block)
residual_layernorm_forward(R* res, F* out, float* mean, float* rstd, const R* inp1, const F* inp2,
                           const P* weight, const P* bias, int N, float eps) {
    __shared__ float room[ROOM];
    bool packed = is_aligned(res, out, inp1, inp2, weight, bias);
    int64_t n = first_row();
    Words<R> x[ROWS][PACKETS] = {};
    Words<F> branch[ROWS][PACKETS] = {};
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        if (n + i < N) {
            read_row(x[i], inp1 + (n + i) * C, packed);
            read_row(branch[i], inp2 + (n + i) * C, packed);
        }
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int v = 0; v < PACKETS; v++) x[i][v] = summed(x[i][v], branch[i][v]);
    }
    float m[ROWS], r[ROWS];
    statistics_of(x, eps, room, m, r);
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
        for (int v = 0; v < PACKETS; v++)
            if (n + i < N) write_packet(res + (n + i) * C, channel(v), x[i][v], packed);
    }
    write_rows(out, mean, rstd, x, m, r, weight, bias, N, packed);
}
