// p and ds recomputed from lse wherever they are used: a warp a query gathers dq (and leaves
// delta = dout . out), then a warp a key gathers dk and dv. Against 01: nothing of size T * T.
//
//@ launch attention_dq   grid=ceil_div(B*H*T,block/32) block=block
//@ launch attention_dkdv grid=ceil_div(B*H*T,block/32) block=block
//@ static  D
//@ block   256
//@ scratch delta F32["B H T"]
//@ dtype   all=float32 | F=bfloat16
//@ claims  deterministic batch_invariant no_atomics
#include "warps.cuh"

extern "C" __global__ void attention_dq(F* dqkv, float* delta, const F* dout, const F* qkv,
                                        const F* out, const float* lse, int B, int T, int H) {
    size_t row = ((size_t)blockIdx.x * block + threadIdx.x) / 32, C = (size_t)H * D;
    if (row >= (size_t)B * H * T) return;
    size_t t = row % T, h = row / T % H, b = row / T / H, at = (b * T + t) * C + h * D;
    const F* past = qkv + b * T * 3 * C + h * D;
    float q[OWN], dy[OWN], y[OWN], dq[OWN] = {}, scale = 1.0f / sqrtf(D);
    load_row(q, past + t * 3 * C);
    load_row(dy, dout + at);
    load_row(y, out + at);
    float base = lse[row], mean = warp_dot(dy, y);
    if (threadIdx.x % 32 == 0) delta[row] = mean;
    for (size_t s = 0; s <= t; s++) {
        float k[OWN], v[OWN];
        load_row(k, past + s * 3 * C + C);
        load_row(v, past + s * 3 * C + 2 * C);
        float p = expf(scale * warp_dot(q, k) - base);
        float ds = p * (warp_dot(dy, v) - mean) * scale;
        for (int i = 0; i < OWN; i++) dq[i] += ds * k[i];
    }
    store_row(dqkv + (b * T + t) * 3 * C + h * D, dq);
}

extern "C" __global__ void attention_dkdv(F* dqkv, const float* delta, const F* dout, const F* qkv,
                                          const float* lse, int B, int T, int H) {
    size_t row = ((size_t)blockIdx.x * block + threadIdx.x) / 32, C = (size_t)H * D;
    if (row >= (size_t)B * H * T) return;
    size_t s = row % T, h = row / T % H, b = row / T / H, at = (b * T + s) * 3 * C + h * D;
    const float *base = lse + (row - s), *mean = delta + (row - s);
    float k[OWN], v[OWN], dk[OWN] = {}, dv[OWN] = {}, scale = 1.0f / sqrtf(D);
    load_row(k, qkv + at + C);
    load_row(v, qkv + at + 2 * C);
    for (size_t t = s; t < T; t++) {
        float q[OWN], dy[OWN];
        load_row(q, qkv + (b * T + t) * 3 * C + h * D);
        load_row(dy, dout + (b * T + t) * C + h * D);
        float p = expf(scale * warp_dot(q, k) - base[t]);
        float ds = p * (warp_dot(dy, v) - mean[t]) * scale;
        for (int i = 0; i < OWN; i++) {
            dk[i] += ds * q[i];
            dv[i] += p * dy[i];
        }
    }
    store_row(dqkv + at + C, dk);
    store_row(dqkv + at + 2 * C, dv);
}
