// p and ds stand whole in scratch, T * T a head; then a thread an element of dq, dk and dv. No two
// threads write to one place, so there is nothing to add atomically.
//
//@ launch attention_delta     grid=ceil_div(B*H*T,block)   block=block
//@ launch attention_dscores   grid=ceil_div(B*H*T*T,block) block=block
//@ launch attention_gradients grid=ceil_div(B*T*H*D,block) block=block
//@ block   256
//@ scratch p F32["B H T T"]
//@ scratch ds F32["B H T T"]
//@ scratch delta F32["B H T"]
//@ dtype   all=float32 | F=bfloat16
//@ claims  deterministic batch_invariant no_atomics
#include "common.cuh"

extern "C" __global__ void attention_delta(float* delta, const F* dout, const F* out, int B, int T,
                                           int H, int D) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x, C = (size_t)H * D;
    if (i >= (size_t)B * H * T) return;
    size_t t = i % T, h = i / T % H, b = i / T / H, at = (b * T + t) * C + h * D;
    float sum = 0.0f;
    for (int d = 0; d < D; d++) sum += to_float(dout[at + d]) * to_float(out[at + d]);
    delta[i] = sum;
}

extern "C" __global__ void attention_dscores(float* p, float* ds, const float* delta,
                                             const F* dout, const F* qkv, const float* lse, int B,
                                             int T, int H, int D) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x, C = (size_t)H * D;
    if (i >= (size_t)B * H * T * T) return;
    size_t s = i % T, row = i / T, t = row % T, h = row / T % H, b = row / T / H;
    if (s > t) return;
    const F* q = qkv + (b * T + t) * 3 * C + h * D;
    const F* k = qkv + (b * T + s) * 3 * C + h * D + C;
    const F* dy = dout + (b * T + t) * C + h * D;
    float dot = 0.0f, dp = 0.0f, scale = 1.0f / sqrtf(D);
    for (int d = 0; d < D; d++) {
        dot += to_float(q[d]) * to_float(k[d]);
        dp += to_float(dy[d]) * to_float(k[C + d]);
    }
    p[i] = expf(dot * scale - lse[row]);
    ds[i] = p[i] * (dp - delta[row]) * scale;
}

extern "C" __global__ void attention_gradients(F* dqkv, const float* p, const float* ds,
                                               const F* dout, const F* qkv, int B, int T, int H,
                                               int D) {
    size_t i = (size_t)blockIdx.x * block + threadIdx.x, C = (size_t)H * D;
    if (i >= (size_t)B * T * C) return;
    size_t d = i % D, h = i / D % H, t = i / C % T, b = i / C / T;
    const F* q = qkv + b * T * 3 * C + h * D + d;  // channel d of every position, 3C apart
    const F* dy = dout + b * T * C + h * D + d;
    size_t square = (b * H + h) * T * T;
    float dq = 0.0f, dk = 0.0f, dv = 0.0f;
    for (size_t s = 0; s <= t; s++) dq += ds[square + t * T + s] * to_float(q[s * 3 * C + C]);
    for (size_t r = t; r < T; r++) {
        dk += ds[square + r * T + t] * to_float(q[r * 3 * C]);
        dv += p[square + r * T + t] * to_float(dy[r * C]);
    }
    F* to = dqkv + (b * T + t) * 3 * C + h * D + d;
    to[0] = from_float<F>(dq);
    to[C] = from_float<F>(dk);
    to[2 * C] = from_float<F>(dv);
}
