// A thread a row. The variance is E[x^2] - E[x]^2, which cancels where the mean is large.
//
//@ reject values: cancellation at a large mean
//@ block  128
//@ grid   ceil_div(N, block)
//@ dtype  all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void layernorm_forward(F* out, float* mean, float* rstd, const R* inp,
                                             const P* weight, const P* bias, int N, int C,
                                             float eps) {
    int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    const R* x = inp + (size_t)n * C;
    float sum = 0.0f, squares = 0.0f;
    for (int c = 0; c < C; c++) sum += to_float(x[c]), squares += to_float(x[c]) * to_float(x[c]);
    float m = sum / C, r = rsqrtf(fmaxf(squares / C - m * m, 0.0f) + eps);
    mean[n] = m;
    rstd[n] = r;
    for (int c = 0; c < C; c++)
        out[(size_t)n * C + c] =
            from_float<F>((to_float(x[c]) - m) * r * to_float(weight[c]) + to_float(bias[c]));
}
