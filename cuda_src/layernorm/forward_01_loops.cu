// A thread a row: the C loops, one row's on one thread.
//
//@ block  256 64
//@ grid   ceil_div(N, block)
//@ dtype  all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void layernorm_forward(F* out, float* mean, float* rstd, const R* inp,
                                             const P* weight, const P* bias, int N, int C,
                                             float eps) {
    int n = blockIdx.x * block + threadIdx.x;
    if (n >= N) return;
    const R* x = inp + (size_t)n * C;  // inp[n, :]
    F* y = out + (size_t)n * C;        // out[n, :]

    float sum = 0.0f;
    for (int c = 0; c < C; c++) sum += to_float(x[c]);
    float m = sum / C;

    float squares = 0.0f;
    for (int c = 0; c < C; c++) {
        float d = to_float(x[c]) - m;
        squares += d * d;
    }
    float r = 1.0f / sqrtf(squares / C + eps);

    for (int c = 0; c < C; c++) {
        float xhat = (to_float(x[c]) - m) * r;
        y[c] = from_float<F>(xhat * to_float(weight[c]) + to_float(bias[c]));
    }
    mean[n] = m;
    rstd[n] = r;
}
