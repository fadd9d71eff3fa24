// A warp a row, without the row kept: what the middle rungs of backward have in common.
#pragma once
#include "common.cuh"

// The means over a row of g = dout weight and of g xhat; every lane gets both.
__device__ inline void row_means(const F* dy, const R* x, const P* weight, float m, float r, int C,
                                 float& g_mean, float& gx_mean) {
    float g_sum = 0.0f, gx_sum = 0.0f;
    for (int c = threadIdx.x % 32; c < C; c += 32) {
        float xhat = (to_float(x[c]) - m) * r;
        float g = to_float(dy[c]) * to_float(weight[c]);
        g_sum += g;
        gx_sum += g * xhat;
    }
    g_mean = warp_sum(g_sum) / C;
    gx_mean = warp_sum(gx_sum) / C;
}

// One element of dinp's increment.
__device__ inline float row_part(float g, float xhat, float r, float g_mean, float gx_mean) {
    return (g - g_mean - xhat * gx_mean) * r;
}
