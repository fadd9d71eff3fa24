// A thread a query; scores are divided by sqrt(H D) where sqrt(D) is meant.
//
//@ reject gate: 1/sqrt(C) for 1/sqrt(D)
//@ block  64
//@ grid   ceil_div(B * T * H, block)
//@ dtype  all=float32 | F=bfloat16
#include "common.cuh"

extern "C" __global__ void attention_forward(F* out, float* lse, const F* qkv, int B, int T, int H,
                                             int D) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (size_t)B * T * H) return;
    size_t b = i / (T * H), t = i / H % T, h = i % H, C = (size_t)H * D;
    const F* q = qkv + (b * T + t) * 3 * C + h * D;
    const F* k = qkv + b * T * 3 * C + C + h * D;
    float top = -INFINITY, sum = 0.0f, scale = rsqrtf((float)C);
    for (int pass = 0; pass < 2; pass++)
        for (size_t s = 0; s <= t; s++) {
            float score = 0.0f;
            for (int d = 0; d < D; d++) score += to_float(q[d]) * to_float(k[s * 3 * C + d]);
            if (pass == 0) top = max_nan(top, score * scale);
            else sum += expf(score * scale - top);
        }
    lse[(b * H + h) * T + t] = top + logf(sum);
    for (int d = 0; d < D; d++) {
        float mean = 0.0f;
        for (size_t s = 0; s <= t; s++) {
            float score = 0.0f;
            for (int e = 0; e < D; e++) score += to_float(q[e]) * to_float(k[s * 3 * C + e]);
            mean += expf(score * scale - top) / sum * to_float(k[s * 3 * C + C + d]);
        }
        out[(b * T + t) * C + h * D + d] = from_float<F>(mean);
    }
}
