// delta = dout . out of a query and head: what softmax's backward subtracts.
#pragma once
#include "common.cuh"

// Of row (b, h, t) of [B, H, T], by a whole warp; every lane gets it.
__device__ inline float delta_of(size_t row, const F* dout, const F* out, int T, int H, int D) {
    size_t t = row % T, h = row / T % H, b = row / T / H, at = ((b * T + t) * H + h) * D;
    float sum = 0.0f;
    for (int d = threadIdx.x % 32; d < D; d += 32)
        sum += to_float(dout[at + d]) * to_float(out[at + d]);
    return warp_sum(sum);
}
