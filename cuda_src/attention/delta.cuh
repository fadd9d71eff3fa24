// delta = dout . out of each query and head: what softmax's backward subtracts.
#pragma once
#include "common.cuh"

// A warp a row of D channels, a block of whole warps.
__device__ inline void write_delta(float* delta, const F* dout, const F* out, int B, int T, int H,
                                   int D) {
    size_t row = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32, C = (size_t)H * D;
    if (row >= (size_t)B * H * T) return;
    size_t t = row % T, h = row / T % H, b = row / T / H, at = (b * T + t) * C + h * D;
    float sum = 0.0f;
    for (int d = threadIdx.x % 32; d < D; d += 32)
        sum += to_float(dout[at + d]) * to_float(out[at + d]);
    sum = warp_sum(sum);
    if (threadIdx.x % 32 == 0) delta[row] = sum;
}
