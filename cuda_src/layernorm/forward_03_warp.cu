// A warp a row, several rows a block: the sums go from lane to lane by shuffles.
// Against 02: no shared memory and no barrier, so that no warp ever waits for another.
//
//@ block  256 128 512
//@ grid   ceil_div(N, block / 32)
//@ dtype  all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void layernorm_forward(F* out, float* mean, float* rstd, const R* inp,
                                             const P* weight, const P* bias, int N, int C,
                                             float eps) {
    int n = blockIdx.x * (block / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (n >= N) return;
    const R* x = inp + (size_t)n * C;  // inp[n, :]
    F* y = out + (size_t)n * C;        // out[n, :]

    float sum = 0.0f;
    for (int c = lane; c < C; c += 32) sum += to_float(x[c]);
    float m = warp_sum(sum) / C;

    float squares = 0.0f;
    for (int c = lane; c < C; c += 32) {
        float d = to_float(x[c]) - m;
        squares += d * d;
    }
    float r = 1.0f / sqrtf(warp_sum(squares) / C + eps);

    for (int c = lane; c < C; c += 32) {
        float xhat = (to_float(x[c]) - m) * r;
        y[c] = from_float<F>(xhat * to_float(weight[c]) + to_float(bias[c]));
    }
    if (lane == 0) {
        mean[n] = m;
        rstd[n] = r;
    }
}
