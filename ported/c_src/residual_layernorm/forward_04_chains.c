// Four vectors of partial sums instead of one: an addition takes four cycles to finish, and in one
// chain each waits for the last. Whole groups of four vectors need no mask for the row's end.
// Against 03: the two sums, and res is written in a pass of its own.
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

void residual_layernorm_forward(float* res, float* out, float* mean, float* rstd,
                                const float* inp1, const float* inp2,
                                const float* weight, const float* bias, int N, int C,
                                float eps, int threads) {
    #pragma omp parallel for num_threads(threads)
    for (int n = 0; n < N; n++) {
        const float* a = inp1 + (size_t)n * C;  // inp1[n, :]
        const float* b = inp2 + (size_t)n * C;  // inp2[n, :]
        float* x = res + (size_t)n * C;         // res[n, :]
        float* y = out + (size_t)n * C;         // out[n, :]
        for (int c = 0; c < C; c += LANES) {
            store(x + c, load(a + c, C - c) + load(b + c, C - c), C - c);
        }
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
