// ds = p dp: softmax's backward without the row's dot product.
//
//@ reject gate: dout . out is not subtracted
//@ dtype  all=float32
//@ claims deterministic batch_invariant
#include <math.h>
#include <stddef.h>

static float dot(const float* a, const float* b, int D) {
    float sum = 0.0f;
    for (int d = 0; d < D; d++) {
        sum += a[d] * b[d];
    }
    return sum;
}

void attention_backward(float* dqkv, const float* dout, const float* qkv, const float* out,
                        const float* lse, int B, int T, int H, int D) {
    size_t C = (size_t)H * D;
    float scale = 1.0f / sqrtf(D);
    (void)out;
    for (size_t i = 0; i < (size_t)B * T * 3 * C; i++) {
        dqkv[i] = 0.0f;
    }
    for (int b = 0; b < B; b++) {
        for (int h = 0; h < H; h++) {
            for (int t = 0; t < T; t++) {
                size_t row = ((size_t)b * T + t) * C + (size_t)h * D;    // [b, t, h, :] of out
                size_t at = ((size_t)b * T + t) * 3 * C + (size_t)h * D;  // [b, t, 0, h, :] of qkv
                const float* q = qkv + at;
                const float* dy = dout + row;
                float* dq = dqkv + at;
                for (int s = 0; s <= t; s++) {
                    size_t past = ((size_t)b * T + s) * 3 * C + (size_t)h * D;
                    const float* k = qkv + past + C;
                    const float* v = qkv + past + 2 * C;
                    float* dk = dqkv + past + C;
                    float* dv = dqkv + past + 2 * C;
                    float p = expf(dot(q, k, D) * scale - lse[((size_t)b * H + h) * T + t]);
                    float ds = p * dot(dy, v, D) * scale;
                    for (int d = 0; d < D; d++) {
                        dq[d] += ds * k[d];
                        dk[d] += ds * q[d];
                        dv[d] += p * dy[d];
                    }
                }
            }
        }
    }
}
