// A head's row of D channels over the lanes of a warp: lane l holds channels l, l + 32, ..
#pragma once
#include "common.cuh"

constexpr int OWN = (D + 31) / 32;  // channels a lane

__device__ __forceinline__ void load_row(float (&x)[OWN], const F* from) {
    for (int i = 0; i < OWN; i++) {
        int d = threadIdx.x % 32 + 32 * i;
        x[i] = d < D ? to_float(from[d]) : 0.0f;
    }
}
__device__ __forceinline__ void store_row(F* to, const float (&x)[OWN]) {
    for (int i = 0; i < OWN; i++) {
        int d = threadIdx.x % 32 + 32 * i;
        if (d < D) to[d] = from_float<F>(x[i]);
    }
}
__device__ __forceinline__ float warp_dot(const float (&a)[OWN], const float (&b)[OWN]) {
    float sum = 0.0f;
    for (int i = 0; i < OWN; i++) sum += a[i] * b[i];
    return warp_sum(sum);
}
