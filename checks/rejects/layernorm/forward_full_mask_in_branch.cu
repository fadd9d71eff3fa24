// A warp a row. Only the lanes that have a channel take part in the shuffles, but the mask names
// all 32.
//
//@ reject launch: a mask of 32 lanes in a branch that fewer take
//@ block  32
//@ grid   N
//@ dtype  all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void layernorm_forward(F* out, float* mean, float* rstd, const R* inp,
                                             const P* weight, const P* bias, int N, int C,
                                             float eps) {
    const R* x = inp + (size_t)blockIdx.x * C;
    F* y = out + (size_t)blockIdx.x * C;
    float m = 0.0f, r = 0.0f;
    if (threadIdx.x < C) {
        float sum = 0.0f;
        for (int c = threadIdx.x; c < C; c += 32) sum += to_float(x[c]);
        m = warp_sum(sum) / C;
        sum = 0.0f;
        for (int c = threadIdx.x; c < C; c += 32) {
            float d = to_float(x[c]) - m;
            sum += d * d;
        }
        r = rsqrtf(warp_sum(sum) / C + eps);
    }
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = m;
        rstd[blockIdx.x] = r;
    }
    for (int c = threadIdx.x; c < C; c += blockDim.x)
        y[c] = from_float<F>((to_float(x[c]) - m) * r * to_float(weight[c]) + to_float(bias[c]));
}
