// A warp a query, softmax online: with each key the running maximum, the sum and the weighted sum
// of values are brought up to date, so no score is kept (Milakov, Gimelshein 2018). Channels lie
// across the lanes, in registers. Against 01: no scratch, and rows are read whole.
//
//@ static D
//@ block  256
//@ grid   ceil_div(B*H*T, block / 32)
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic batch_invariant no_atomics
#include "warps.cuh"

extern "C" __global__ void attention_forward(F* out, float* lse, const F* qkv, int B, int T,
                                             int H) {
    size_t row = ((size_t)blockIdx.x * block + threadIdx.x) / 32, C = (size_t)H * D;
    if (row >= (size_t)B * H * T) return;
    size_t t = row % T, h = row / T % H, b = row / T / H;
    const F* past = qkv + b * T * 3 * C + h * D;  // position 0: q, and k and v behind it
    float q[OWN], acc[OWN] = {}, max = -INFINITY, sum = 0.0f, scale = 1.0f / sqrtf(D);
    load_row(q, past + t * 3 * C);
    for (size_t s = 0; s <= t; s++) {
        float k[OWN], v[OWN];
        load_row(k, past + s * 3 * C + C);
        load_row(v, past + s * 3 * C + 2 * C);
        float score = scale * warp_dot(q, k);
        float larger = fmaxf(max, score);  // may step over a NaN: the sum will not
        float base = larger == -INFINITY ? 0.0f : larger;
        float before = expf(max - base), p = expf(score - base);
        for (int i = 0; i < OWN; i++) acc[i] = before * acc[i] + p * v[i];
        sum = before * sum + p;
        max = larger;
    }
    for (int i = 0; i < OWN; i++) acc[i] /= sum;
    store_row(out + (b * T + t) * C + h * D, acc);
    if (threadIdx.x % 32 == 0) lse[row] = max + logf(sum);
}
