// Four vectors of partial sums instead of one: an addition takes four cycles to finish, and in one
// chain each waits for the last. Whole groups of four vectors need no mask for the row's end.
// Against 03: the two sums; the last pass is the same.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

#define GROUP (4 * LANES)

// Sum over c of x[c] - m, or of its square.
INLINE float sum_about(const float* x, float m, int C, int squared) {
    lanes sum[4] = {{0}};
    int c = 0;
    for (; c + GROUP <= C; c += GROUP) {
        for (int j = 0; j < 4; j++) {
            lanes d = load(x + c + j * LANES, LANES) - m;
            sum[j] += squared ? d * d : d;
        }
    }
    for (; c < C; c += LANES) {
        lanes d = keep(load(x + c, C - c) - m, every(0.0f), C - c);
        sum[0] += squared ? d * d : d;
    }
    return sum_of((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

void layernorm_forward(float* out, float* mean, float* rstd,
                       const float* inp, const float* weight, const float* bias,
                       int N, int C, float eps, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int n = 0; n < N; n++) {
        const float* x = inp + (size_t)n * C;  // inp[n, :]
        float* y = out + (size_t)n * C;        // out[n, :]
        float m = sum_about(x, 0.0f, C, 0) / C;
        float r = 1.0f / sqrtf(sum_about(x, m, C, 1) / C + eps);
        for (int c = 0; c < C; c += LANES) {
            lanes xhat = (load(x + c, C - c) - m) * r;
            store(y + c, xhat * load(weight + c, C - c) + load(bias + c, C - c), C - c);
        }
        mean[n] = m;
        rstd[n] = r;
    }
}
