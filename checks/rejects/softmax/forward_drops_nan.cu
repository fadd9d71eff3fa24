// A warp a row. fmaxf drops a NaN among the scores, and the sum is taken over the finite ones
// only.
//
//@ reject laws: a NaN among the scores disappears
//@ block  32
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
#include "common.cuh"

extern "C" __global__ void softmax_forward(F* out, const F* inp, int N, int C) {
    const F* x = inp + (size_t)blockIdx.x * C;
    float top = -INFINITY;
    for (int c = threadIdx.x; c < C; c += 32) top = fmaxf(top, to_float(x[c]));
    for (int away = 16; away > 0; away /= 2) top = fmaxf(top, __shfl_xor_sync(FULL, top, away));
    float sum = 0.0f;
    for (int c = threadIdx.x; c < C; c += 32)
        if (!isnan(to_float(x[c]))) sum += expf(to_float(x[c]) - top);
    sum = warp_sum(sum);
    for (int c = threadIdx.x; c < C; c += 32) {
        float e = isnan(to_float(x[c])) ? 0.0f : expf(to_float(x[c]) - top);
        out[(size_t)blockIdx.x * C + c] = from_float<F>(e / sum);
    }
}
