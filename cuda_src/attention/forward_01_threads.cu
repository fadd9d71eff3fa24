// Three launches: a thread a score, then a thread a row's softmax, then a thread an output element.
// The scores stand whole in scratch, T * T a head.
//
//@ launch attention_scores  grid=ceil_div(B*H*T*T,block) block=block
//@ launch attention_softmax grid=ceil_div(B*H*T,block)   block=block
//@ launch attention_values  grid=ceil_div(B*H*T*D,block) block=block
//@ block   256
//@ scratch p F32["B H T T"]
//@ dtype   all=float32 | F=bfloat16
//@ claims  deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void attention_scores(float* p, const F* qkv, int B, int T, int H, int D) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x, C = (size_t)H * D;
    if (i >= (size_t)B * H * T * T) return;
    size_t s = i % T, t = i / T % T, h = i / T / T % H, b = i / T / T / H;
    if (s > t) return;
    const F* q = qkv + (b * T + t) * 3 * C + h * D;
    const F* k = qkv + (b * T + s) * 3 * C + h * D + C;
    float dot = 0.0f;
    for (int d = 0; d < D; d++) dot += to_float(q[d]) * to_float(k[d]);
    p[i] = dot * (1.0f / sqrtf(D));
}

extern "C" __global__ void attention_softmax(float* lse, float* p, int B, int T, int H) {
    size_t row = (size_t)blockIdx.x * block + threadIdx.x;
    if (row >= (size_t)B * H * T) return;
    int t = row % T;
    float* scores = p + row * T;
    float max = -INFINITY, sum = 0.0f;
    for (int s = 0; s <= t; s++) max = max_nan(max, scores[s]);
    for (int s = 0; s <= t; s++) sum += expf(scores[s] - max);
    for (int s = 0; s <= t; s++) scores[s] = expf(scores[s] - max) / sum;
    lse[row] = max + logf(sum);
}

extern "C" __global__ void attention_values(F* out, const float* p, const F* qkv, int B, int T,
                                            int H, int D) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x, C = (size_t)H * D;
    if (i >= (size_t)B * T * C) return;
    size_t d = i % D, h = i / D % H, t = i / C % T, b = i / C / T;
    const float* weights = p + ((b * H + h) * T + t) * T;
    float sum = 0.0f;
    for (size_t s = 0; s <= t; s++)
        sum += weights[s] * to_float(qkv[(b * T + s) * 3 * C + 2 * C + h * D + d]);
    out[i] = from_float<F>(sum);
}
