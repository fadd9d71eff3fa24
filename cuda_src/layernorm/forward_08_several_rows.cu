// A warp has ROWS rows at once: all their packets are asked for before the first is used, the steps
// of their sums go side by side, and weight and bias are read once for all (several.cuh). How the
// caches treat the rows is tuned.
// Against 06: ROWS times the bytes on their way a warp, a share of the reads of weight and bias.
//
//@ block   128 64
//@ tune    ROWS 1 2
//@ tune    HINT 0 2
//@ static  C
//@ needs   C <= 32 * block
//@ grid    ceil_div(N, block / 32 / (1 + (C > 1024) + 2 * (C > 2048) + 4 * (C > 4096)) * ROWS)
//@ dtype   all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ inplace out=inp
//@ claims  deterministic batch_invariant no_atomics
#include "several.cuh"

extern "C" __global__ void __launch_bounds__(block)
layernorm_forward(F* out, float* mean, float* rstd, const R* inp, const P* weight, const P* bias,
                  int N, float eps) {
    __shared__ float room[ROOM];
    bool packed = is_aligned(out, inp, weight, bias);
    int64_t n = first_row();
    Words<R> x[ROWS][PACKETS] = {};
#pragma unroll
    for (int i = 0; i < ROWS; i++)
        if (n + i < N) read_row(x[i], inp + (n + i) * C, packed);
    float m[ROWS], r[ROWS];
    statistics_of(x, eps, room, m, r);
    write_rows(out, mean, rstd, x, m, r, weight, bias, N, packed);
}
