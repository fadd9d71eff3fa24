// A block a row. The tree adds without a barrier between its levels: a warp may read what another
// one has not added yet.
//
//@ reject sanitizers: a barrier is missing between the levels of the tree
//@ block  128
//@ grid   N
//@ dtype  all=float32 | F=bfloat16 R=bfloat16 P=bfloat16
//@ claims deterministic batch_invariant
#include "common.cuh"

extern "C" __global__ void layernorm_forward(F* out, float* mean, float* rstd, const R* inp,
                                             const P* weight, const P* bias, int N, int C,
                                             float eps) {
    const R* x = inp + (size_t)blockIdx.x * C;
    F* y = out + (size_t)blockIdx.x * C;
    __shared__ float room[128];
    float sum = 0.0f;
    for (int c = threadIdx.x; c < C; c += blockDim.x) sum += to_float(x[c]);
    room[threadIdx.x] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2)
        if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
    __syncthreads();
    float m = room[0] / C;
    __syncthreads();
    sum = 0.0f;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float d = to_float(x[c]) - m;
        sum += d * d;
    }
    room[threadIdx.x] = sum;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) room[threadIdx.x] += room[threadIdx.x + half];
        __syncthreads();
    }
    float r = rsqrtf(room[0] / C + eps);
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = m;
        rstd[blockIdx.x] = r;
    }
    for (int c = threadIdx.x; c < C; c += blockDim.x)
        y[c] = from_float<F>((to_float(x[c]) - m) * r * to_float(weight[c]) + to_float(bias[c]));
}
