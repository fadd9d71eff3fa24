// Threads share out the heads; every inner loop runs over 16 channels at a time.
// Against 01: threads and vectors.
//
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include "common.h"

INLINE float dot(const float* a, const float* b, ptrdiff_t D) {
    lanes sum = {0};
    for (ptrdiff_t d = 0; d < D; d += LANES) {
        sum += load(a + d, D - d) * load(b + d, D - d);
    }
    return sum_of(sum);
}

// y[:] += w * x[:]
INLINE void add_row(float* y, float w, const float* x, ptrdiff_t D) {
    for (ptrdiff_t d = 0; d < D; d += LANES) {
        store(y + d, load(y + d, D - d) + w * load(x + d, D - d), D - d);
    }
}

void attention_backward(float* dqkv, const float* dout, const float* qkv, const float* out,
                        const float* lse, int B, int T, int H, int D, int threads) {
    ptrdiff_t C = (ptrdiff_t)H * D;
    float scale = 1.0f / sqrtf(D);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (ptrdiff_t head = 0; head < (ptrdiff_t)B * H; head++) {
        ptrdiff_t b = head / H, h = head % H;
        for (ptrdiff_t i = 0; i < 3 * T; i++) {  // dq, dk and dv of each position
            memset(dqkv + (b * T * 3 + i) * C + h * D, 0, D * sizeof(float));
        }
        for (ptrdiff_t t = 0; t < T; t++) {
            ptrdiff_t at = (b * T + t) * 3 * C + h * D;  // [b, t, 0, h, :] of qkv
            const float* dy = dout + (b * T + t) * C + h * D;
            float delta = dot(dy, out + (b * T + t) * C + h * D, D);
            for (ptrdiff_t s = 0; s <= t; s++) {
                ptrdiff_t key = (b * T + s) * 3 * C + C + h * D, value = key + C;
                float p = dot(qkv + at, qkv + key, D) * scale - lse[head * T + t];
                p = exp_of(every(p))[0];
                float ds = p * (dot(dy, qkv + value, D) - delta) * scale;
                add_row(dqkv + at, ds, qkv + key, D);
                add_row(dqkv + key, ds, qkv + at, D);
                add_row(dqkv + value, p, dy, D);
            }
        }
    }
}
