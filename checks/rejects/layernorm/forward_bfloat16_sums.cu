// A thread a row, with sums kept in bfloat16.
//
//@ reject gate: sums are rounded to bfloat16 after every term
//@ block  128
//@ grid   ceil_div(N, block)
//@ dtype  F=bfloat16 R=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void layernorm_forward(F* out, float* mean, float* rstd, const R* inp,
                                             const P* weight, const P* bias, int N, int C,
                                             float eps) {
    int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    const R* x = inp + (size_t)n * C;
    R sum = from_float<R>(0.0f), squares = from_float<R>(0.0f);
    for (int c = 0; c < C; c++) sum = from_float<R>(to_float(sum) + to_float(x[c]));
    float m = to_float(sum) / C;
    for (int c = 0; c < C; c++) {
        float d = to_float(x[c]) - m;
        squares = from_float<R>(to_float(squares) + d * d);
    }
    float r = rsqrtf(to_float(squares) / C + eps);
    mean[n] = m;
    rstd[n] = r;
    for (int c = 0; c < C; c++)
        out[(size_t)n * C + c] =
            from_float<F>((to_float(x[c]) - m) * r * to_float(weight[c]) + to_float(bias[c]));
}
