// A block a row: neighbouring threads read neighbouring channels, and the two sums are reduced
// through shared memory.
// Against 01: a warp's loads are whole lines of memory instead of 32 numbers a row apart.
//
//@ block  256 128 512
//@ grid   N
//@ dtype  all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void layernorm_forward(F* out, float* mean, float* rstd, const R* inp,
                                             const P* weight, const P* bias, int C, float eps) {
    __shared__ float room[32];
    int n = blockIdx.x;
    const R* x = inp + (size_t)n * C;  // inp[n, :]
    F* y = out + (size_t)n * C;        // out[n, :]

    float sum = 0.0f;
    for (int c = threadIdx.x; c < C; c += block) sum += to_float(x[c]);
    float m = block_sum(sum, room) / C;

    float squares = 0.0f;
    for (int c = threadIdx.x; c < C; c += block) {
        float d = to_float(x[c]) - m;
        squares += d * d;
    }
    float r = 1.0f / sqrtf(block_sum(squares, room) / C + eps);

    for (int c = threadIdx.x; c < C; c += block) {
        float xhat = (to_float(x[c]) - m) * r;
        y[c] = from_float<F>(xhat * to_float(weight[c]) + to_float(bias[c]));
    }
    if (threadIdx.x == 0) {
        mean[n] = m;
        rstd[n] = r;
    }
}
