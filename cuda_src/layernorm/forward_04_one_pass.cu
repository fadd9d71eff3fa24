// Both statistics in one pass: each lane keeps count, mean and squares about that mean as numbers
// come (Welford 1962), and lanes are merged two by two (Chan, Golub, LeVeque 1979). Not
// E[x^2] - E[x]^2, which loses every digit when the mean is large.
// Against 03: a row is read twice instead of three times, for a division a number.
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

    // The sum gives the row's mean, which stays right where infinities end the running one.
    float count = 0.0f, running = 0.0f, squares = 0.0f, sum = 0.0f;
    for (int c = lane; c < C; c += 32) {
        float value = to_float(x[c]), d = value - running;
        count += 1.0f;
        running += d / count;
        squares += d * (value - running);
        sum += value;
    }
    for (int away = 16; away > 0; away /= 2) {
        float count2 = __shfl_down_sync(FULL, count, away);
        float d = __shfl_down_sync(FULL, running, away) - running;
        float squares2 = __shfl_down_sync(FULL, squares, away);
        float share = count2 > 0.0f ? count2 / (count + count2) : 0.0f;
        if (count2 > 0.0f) {
            running += d * share;
            squares += squares2 + d * d * count * share;
        }
        count += count2;
    }
    float m = warp_sum(sum) / C;
    float r = 1.0f / sqrtf(__shfl_sync(FULL, squares, 0) / C + eps);

    for (int c = lane; c < C; c += 32) {
        float xhat = (to_float(x[c]) - m) * r;
        y[c] = from_float<F>(xhat * to_float(weight[c]) + to_float(bias[c]));
    }
    if (lane == 0) {
        mean[n] = m;
        rstd[n] = r;
    }
}
