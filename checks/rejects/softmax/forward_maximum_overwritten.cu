// A block a row. The sums take the place of the maxima while slower warps may still read those: a
// race that a widely copied kernel has carried for years.
//
//@ reject sanitizers: one room for maxima and sums, and no barrier between them
//@ block  128
//@ grid   N
//@ dtype  all=float32 | F=bfloat16
//@ claims deterministic
#include "common.cuh"

extern "C" __global__ void softmax_forward(F* out, const F* inp, int N, int C) {
    __shared__ float room[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const F* x = inp + (size_t)blockIdx.x * C;
    float top = -INFINITY;
    for (int c = threadIdx.x; c < C; c += blockDim.x) top = max_nan(top, to_float(x[c]));
    top = warp_max(top);
    if (lane == 0) room[warp] = top;
    __syncthreads();
    top = room[0];
    for (int i = 1; i < warps; i++) top = max_nan(top, room[i]);
    float sum = 0.0f;
    for (int c = threadIdx.x; c < C; c += blockDim.x) sum += expf(to_float(x[c]) - top);
    sum = warp_sum(sum);
    if (lane == 0) room[warp] = sum;
    __syncthreads();
    sum = room[0];
    for (int i = 1; i < warps; i++) sum += room[i];
    for (int c = threadIdx.x; c < C; c += blockDim.x)
        out[(size_t)blockIdx.x * C + c] = from_float<F>(expf(to_float(x[c]) - top) / sum);
}
